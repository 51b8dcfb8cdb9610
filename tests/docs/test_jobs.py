"""The five jobs of a first hour as the scripts in docs/jobs do them, smaller, their commands in this process."""

import csv
import runpy
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from udever.cli import app
from udever.server.run import make_server

JOBS = Path(__file__).parents[2] / "docs" / "jobs"


@pytest.fixture
def job(tmp_path, monkeypatch, capsys):
    """Runs a script in an empty folder; what it printed. Only how a command becomes a process is replaced."""
    monkeypatch.chdir(tmp_path)

    def command(words, *, check):
        assert words[:3] == [sys.executable, "-m", "udever"] and check
        done = CliRunner().invoke(app, words[3:], catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)
        sys.stdout.write(done.output)

    monkeypatch.setattr(subprocess, "run", command)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(JOBS / name), run_name="__main__")
        return capsys.readouterr().out

    return run


class Serving:
    """`udever serve` in a thread, in place of a process."""

    def __init__(self, words):
        self.words = words[3:]
        self.server = None
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("udever.server.run.serve", self.run)
            app(self.words, standalone_mode=False)

    def run(self, service, *, host, port, **_):
        with socket.create_server((host, port)) as listening:
            self.server = make_server(service)
            self.server.run([listening])

    def poll(self):
        return None if self.thread.is_alive() else 1

    def terminate(self):
        self.server.should_exit = True

    def wait(self):
        self.thread.join(20)


def test_every_script_is_run_here_and_named_on_the_page():
    names = {path.name for path in JOBS.glob("*.py")}
    assert names == {"compare.py", "finetune.py", "vectors.py", "search.py", "filter.py"}
    page = (JOBS.parent / "jobs.md").read_text(encoding="utf-8")
    assert all(f"(jobs/{name})" in page for name in names)


def test_compare(job):
    printed = job("compare.py")
    assert "copytree" in printed and "torch.Size([3, 192])" in printed


def test_finetune(job, monkeypatch):
    monkeypatch.setattr("udever.adaptation.attempts.times_suited", lambda *_: 1)  # tests/adaptation trains twice
    subjects = ("file", "folder", "date", "list", "socket", "thread", "number", "word", "table", "page")
    with Path("qa.csv").open("w", newline="") as handle:
        rows = [
            (f"how do I {verb} a {s}", f"def {verb}_{s}(x)") for verb in ("open", "close", "sort") for s in subjects
        ]
        csv.writer(handle).writerows([("question", "answer"), *rows])
    printed = job("finetune.py", "qa.csv")
    assert "qa.csv: question -> answer" in printed and "runs/qa/model ['def " in printed


def test_vectors(job):
    printed = job("vectors.py", "300")
    assert "300 rows" in printed and "vectors: whole" in printed and "(300, 384) float32" in printed


def test_search(job, monkeypatch, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "text.py").write_text('def decode(s):\n    """Decode a string."""\n    return s.decode()\n')
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = (JOBS / "search.py").read_text()
    assert "PORT = 8765" in script
    (tmp_path / "search.py").write_text(script.replace("PORT = 8765", f"PORT = {port}"))
    monkeypatch.setattr(subprocess, "Popen", Serving)
    printed = job(str(tmp_path / "search.py"), "code")
    hits = [line for line in printed.splitlines() if line.startswith("http ")]
    assert hits and hits[0].endswith("text.py:1-3") and "384 dimensions" in printed and "langchain [0." in printed


def test_filter(job):
    printed = job("filter.py")
    assert "2 labels from 40 examples" in printed
    assert printed.splitlines()[-1] == "[['cooking'], ['computing'], ['cooking'], ['computing']]"
