"""A folder indexed, searched, and served to three clients.

Run: python docs/jobs/search.py [folder]. The folder is Python's package `json` by default, the index ./index.
Needs: pip install 'udever[index,serve]' openai langchain-openai
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import openai
from langchain_openai import OpenAIEmbeddings

FOLDER = sys.argv[1] if len(sys.argv) > 1 else str(Path(json.__file__).parent)
PORT = 8765
ADDRESS = f"http://127.0.0.1:{PORT}"
QUESTION = "where is a string decoded"

command = [sys.executable, "-m", "udever"]
subprocess.run([*command, "index", FOLDER, "-m", "seedling", "-o", "index"], check=True)
subprocess.run([*command, "search", QUESTION, "index", "-k", "3", "--lines", "2"], check=True)


def ask(path: str, body: dict | None = None) -> dict:
    """GET, or POST of a body, as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ADDRESS + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def wait_until_ready(server: subprocess.Popen) -> None:
    """Until the model is loaded and the server answers."""
    while server.poll() is None:
        try:
            ask("/ready")
            return
        except urllib.error.URLError:
            time.sleep(0.1)
    sys.exit("the server did not start; it says why above")


server = subprocess.Popen([*command, "serve", "-m", "seedling", "--index", "index", "--port", str(PORT)])
try:
    wait_until_ready(server)

    # 1: any program that speaks HTTP
    for hit in ask("/v1/search", {"query": QUESTION, "top_k": 3})["data"]:
        print("http     ", f"{hit['score']:.3f}", hit["id"])

    # 2: OpenAI's client
    with openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="none is set") as client:
        answer = client.embeddings.create(model="seedling", input=QUESTION, extra_body={"input_type": "query"})
    print("openai   ", len(answer.data[0].embedding), "dimensions")

    # 3: LangChain: one object for what is searched with, one for what is searched
    options = {"model": "seedling", "base_url": f"{ADDRESS}/v1", "api_key": "none is set"}
    options["check_embedding_ctx_length"] = False  # the server counts by the model's own tokens; nothing is fetched
    queries = OpenAIEmbeddings(**options, model_kwargs={"extra_body": {"input_type": "query"}})
    documents = OpenAIEmbeddings(**options, model_kwargs={"extra_body": {"input_type": "document"}})
    vector = queries.embed_query(QUESTION)
    rows = documents.embed_documents(["def py_scanstring(s, end): ...", "def dumps(obj): ..."])
    print("langchain", [round(sum(a * b for a, b in zip(vector, row, strict=True)), 2) for row in rows])
finally:
    server.terminate()
    server.wait()
