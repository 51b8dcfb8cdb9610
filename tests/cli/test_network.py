"""Commands in a network namespace of their own: no way out, and a listener where clouds describe their machines."""

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
        ("embed", "seedling", tmp_path / "a.txt", "-o", tmp_path / "vectors", "--ray", "local"),
        ("index", tmp_path / "a.txt", "-m", "seedling", "-o", tmp_path / "index"),
    ):
        code, told, asked = alone(*arguments)
        assert code == 0 and asked == [], told
