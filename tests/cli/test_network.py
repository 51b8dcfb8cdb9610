"""No work asks anybody anything: commands in a network namespace of their own, and work that may not even try.

In the namespace there is no way out, and a listener where clouds describe their machines.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

INSIDE = """
import http.server, json, os, subprocess, sys, threading

seen = []

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(self.path)
        self.send_response(404)
        self.end_headers()

    do_PUT = do_GET

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("169.254.169.254", 80), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(json.dumps([done.returncode, done.stdout + done.stderr, seen]))
"""
SETUP = 'ip link set lo up && ip addr add 169.254.169.254/32 dev lo && exec "$@"'


@pytest.fixture
def alone(tmp_path):
    """Runs `udever ARGUMENTS` without a network; its exit code, what it said, what it asked the metadata address."""
    inside = ["unshare", "--net", "--map-root-user", "sh", "-c", SETUP, "sh"]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip")
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody make a network namespace")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}

    def run(*arguments):
        command = [*inside, sys.executable, "-c", INSIDE, sys.executable, "-m", "udever", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
        return json.loads(done.stdout)

    return run


def test_commands_work_without_a_network_and_ask_nobody(alone, tmp_path):
    (tmp_path / "a.txt").write_text("one text\nanother text\n")
    for arguments in (
        ("embed", tmp_path / "a.txt", "-m", "seedling", "-o", tmp_path / "vectors", "--ray", "local"),
        ("index", tmp_path / "a.txt", "-m", "seedling", "-o", tmp_path / "index"),
    ):
        code, told, asked = alone(*arguments)
        assert code == 0 and asked == [], told


WATCHED = """
import sys

def watch(event, arguments):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        print("ASKED", event, arguments[-1] if event == "socket.connect" else arguments, flush=True)
        raise OSError("no network in this test")

sys.addaudithook(watch)

def refused(call, *arguments):
    from udever.errors import UdeverError
    try:
        call(*arguments)
    except UdeverError as error:
        print("REFUSED", error)

"""


@pytest.fixture
def watched(tmp_path):
    """Runs Python code in a process where looking up a name or connecting is told and fails; what was printed."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}

    def run(code):
        done = subprocess.run(
            [sys.executable, "-c", WATCHED + code],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_watch_sees_a_lookup(watched):
    code = "from huggingface_hub import model_info\ntry: model_info('a/b')\nexcept Exception: pass"
    assert "ASKED" in watched(code)


@pytest.mark.parametrize("tuning", ["lora", "bitfit"])
def test_training_saving_and_loading_an_adapter_ask_nobody(tuning, watched, decoders, tmp_path):
    """The base's folder is named like one of the hub, so that looking it up there is possible."""
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "base").symlink_to(decoders("bloom"))
    pairs = [{"anchor": f"copy the {word}", "positive": f"def {word}()"} for word in ("tree", "date", "shell", "file")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    recipe = f"""
[model]
base = "org/base"
[data]
pairs = ["pairs.jsonl"]
[training]
tuning = "{tuning}"
batch_size = 4
epochs = 1
[output]
folder = "out"
save = "adapter"
"""
    (tmp_path / "recipe.toml").write_text(recipe)
    told = watched("""
from udever.cli import main
sys.argv = ["udever", "train", "recipe.toml"]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
from udever import Embedder
embedder = Embedder.load("out")
embedder.encode(["one text"])
""")
    assert "ASKED" not in told
    assert list((tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_not_looked_for_on_a_hub(missing, watched, decoders, tmp_path):
    shutil.copytree(decoders("qwen3"), tmp_path / "org" / "model")
    (tmp_path / "org" / "model" / missing).unlink()
    told = watched("""
from udever import Embedder
for name in ("org/model", "org/other", "./org/model", "recipes/a/b"):
    refused(Embedder.load, name)
""")
    assert "ASKED" not in told
    assert told.count("REFUSED") == 4


@pytest.mark.parametrize(
    "command", [("pairs", "srcs/lib", "-o", "out.parquet"), ("embed", "srcs/lib", "-m", "seedling", "-o", "out")]
)
def test_a_mistyped_folder_is_looked_for_on_a_hub_once(watched, tmp_path, command):
    (tmp_path / "src" / "lib").mkdir(parents=True)
    told = watched(f"""
sys.stderr = sys.stdout
from udever.cli import main
sys.argv = ["udever", *{command}]
try:
    main()
except SystemExit as done:
    assert done.code == 2
""")
    *asked, error = told.splitlines()
    assert 1 <= len(asked) <= 2 and all(line.startswith("ASKED") for line in asked), told  # one request may try twice
    assert error.startswith("udever: error: srcs/lib cannot be loaded from the hub (there is no such path here):")
    assert "the hub cannot be reached" in error and "did you mean src/lib?" in error
