"""Models and data sets of a hub: the real clients against a server on this machine."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from udever import Embedder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Repositories in memory: created, committed to as plain files, listed and read."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hub = self.server
        if self.headers.get("Authorization") != "Bearer hf_secret":
            return self.answer({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            hub.private = wanted.get("private", wanted.get("visibility") == "private")
            return self.answer(
                {"url": f"http://{self.headers['Host']}/someone/mine", "name": "someone/mine", "id": "1"}
            )
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]
            return self.answer({"files": modes})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "header":
                hub.message = entry["value"]["summary"]
        url = f"http://{self.headers['Host']}/someone/mine/commit/{COMMIT}"
        return self.answer({"success": True, "commitUrl": url, "commitOid": COMMIT})

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        found = re.match(r"(?:/datasets)?/someone/mine/resolve/[^/]+/(.+)", path)
        if found:
            content = self.server.files.get(found[1])
            return self.send(content) if content is not None else self.answer({"error": "Entry not found"}, 404)
        if "/tree/" in path:
            rows = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.server.files.items()
            ]
            return self.answer(rows)
        siblings = [{"rfilename": name} for name in self.server.files]
        return self.answer({"id": "someone/mine", "sha": COMMIT, "siblings": siblings, "tags": []})

    do_HEAD = do_GET

    def answer(self, content, status=200):
        self.send(json.dumps(content).encode(), status)

    def send(self, content, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.private, server.message, server.asked = {}, None, "", []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files_of(folder):
    """The files below a folder by name, as the hub keeps them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(hub, home, *command, token="hf_secret"):
    given = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_TOKEN": token, "HF_HOME": str(home)}
    environment = {**os.environ, **given, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


def test_what_is_published_is_loaded_back_under_its_fingerprint(hub, decoders, tmp_path):
    embedder = Embedder.load(decoders("llama"))
    recipe = {"recipe.toml": '[data]\ntrained_on = ["sts13"]\n'}
    embedder.save(tmp_path / "mine", notes="How it came about.", extra_files=recipe)
    done = run(hub, tmp_path / "home", "-m", "udever", "push", "someone/mine", "-m", str(tmp_path / "mine"))
    assert done.returncode == 0, done.stderr
    assert f"/commit/{COMMIT}" in done.stdout.replace("\n", "")
    assert hub.private is True
    assert b"How it came about." in hub.files["README.md"]
    assert "hf_secret" not in done.stdout + done.stderr
    code = "import udever; e = udever.Embedder.load('someone/mine'); print(e.fingerprint, *e.trained_on)"
    read = run(hub, tmp_path / "home", "-c", code)
    assert read.returncode == 0, read.stderr
    assert read.stdout.split() == [embedder.fingerprint, "sts13"]
    code = f"import udever; udever.Embedder.load({str(tmp_path / 'mine')!r}).push_to_hub('someone/mine', message='New')"
    assert run(hub, tmp_path / "home", "-c", code).returncode == 0
    assert hub.message == "New"
    assert b"trained_on:\n- sts13" in hub.files["README.md"]


def test_sentence_transformers_loads_a_model_with_roles_by_its_name(hub, decoders, tmp_path):
    embedder = Embedder.load(decoders("bloom"), known_as="izhx/udever-bloom-560m", dtype="float32")
    embedder.save(tmp_path / "mine")
    hub.files = files_of(tmp_path / "mine")
    code = """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("someone/mine", trust_remote_code=True, revision="second", device="cpu")
print(model.encode_document("hello world").tolist())
"""
    done = run(hub, tmp_path / "home", "-c", code)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), embedder.encode_document("hello world"), atol=1e-5)
    asked = {path for path in hub.asked if "/someone/mine" in path}
    assert asked
    assert not {path for path in asked if "/main" in path}


OWN_CODE = {
    "configuration_own.py": b"""
from transformers import LlamaConfig
class OwnConfig(LlamaConfig):
    model_type = "own"
""",
    "modeling_own.py": b"""
from transformers import LlamaModel
from .configuration_own import OwnConfig
class OwnModel(LlamaModel):
    config_class = OwnConfig
""",
}


def test_a_models_own_code_is_fetched_where_it_is_trusted_and_not_before(hub, decoders, tmp_path):
    hub.files = {**files_of(decoders("llama")), **OWN_CODE}
    classes = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    settings = {**json.loads(hub.files["config.json"]), "model_type": "own", "auto_map": classes}
    hub.files["config.json"] = json.dumps(settings).encode()
    code = """
import sys
from pathlib import Path
from udever import Embedder
from udever.errors import ModelError
try:
    Embedder.load("someone/mine")
except ModelError:
    print(len(list(Path(sys.argv[1]).rglob("*.py"))))
model = Embedder.load("someone/mine", trust_remote_code=True, dtype="float32")
print(model.encode("hello world").tolist())
"""
    done = run(hub, tmp_path / "home", "-c", code, str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    count, vector = done.stdout.splitlines()
    expected = Embedder.load(decoders("llama"), dtype="float32").encode("hello world")
    assert count == "0"
    np.testing.assert_allclose(json.loads(vector), expected, atol=1e-5)


def test_what_cannot_be_published_is_said_in_one_line(hub, decoders, tmp_path):
    plain = run(hub, tmp_path / "home", "-m", "udever", "push", "someone/mine", "-m", str(decoders("llama")))
    assert (plain.returncode, "udever.json" in plain.stderr) == (2, True)
    Embedder.load(decoders("llama")).save(tmp_path / "mine")
    for name, token, said in (("mine", "hf_secret", "org/model"), ("someone/mine", "hf_other", "HF_TOKEN")):
        done = run(hub, tmp_path / "home", "-m", "udever", "push", name, "-m", str(tmp_path / "mine"), token=token)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
        assert token not in done.stderr
    assert hub.files == {}


def test_a_data_set_of_the_hub_is_a_table_of_pairs_by_its_name_in_every_command(hub, tmp_path):
    rows = [
        {"question": f"where is item {n}", "answer": f"item {n} lies on shelf {n} of room {n % 3}"} for n in range(40)
    ]
    hub.files = {"README.md": b"", "train.jsonl": "\n".join(map(json.dumps, rows)).encode()}
    task = tmp_path / "tasks" / "sts"
    task.mkdir(parents=True)
    (task / "task.json").write_text(json.dumps({"name": "sts", "type": "sts", "languages": ["eng-Latn"]}))
    pair = {"sentence1": rows[3]["answer"], "sentence2": "Somebody plays the flute by the river", "score": 1.0}
    (task / "eng.jsonl").write_text(json.dumps(pair))
    code = """
import json, sys
from pathlib import Path
from udever.cli.app import app
from udever.pairs.files import read_pairs
hard, mined, tasks = sys.argv[1:]
for command in (
    ["negatives", "someone/mine", "--mode", "words", "-o", hard, "--max-share", "1"],
    ["pairs", "someone/mine", "-o", mined],
    ["overlap", "someone/mine", tasks, "--json"],
):
    app(command, standalone_mode=False)
print(len(read_pairs(hard)), len(read_pairs(mined)))
"""
    given = [tmp_path / "hard.parquet", tmp_path / "mined.parquet", tmp_path / "tasks"]
    done = run(hub, tmp_path / "home", "-c", code, *map(str, given))
    assert done.returncode == 0, done.stderr
    *_, overlap, counts = done.stdout.splitlines()
    assert json.loads(overlap)["rows"][0]["num_exact"] == 1
    assert counts == "40 40"
