"""Several processes on this machine: the folder of one process, a worker that dies, windows that share texts."""

import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from udever.corpus import ProcessRunner, audit, runner_for
from udever.corpus.job import run_here
from udever.errors import OutputError, RecipeError

MODULE = textwrap.dedent("""
    import os, runpy, signal, time

    class Whole(runpy.run_path({conftest!r})["FakeStep"]):
        pass

    class Dying(Whole):
        def run(self, prepared, tick):
            os.kill(os.getpid(), signal.SIGKILL)

    class Slow(Whole):
        def __init__(self, noted):
            super().__init__()
            self.noted = noted

        def run(self, prepared, tick):
            with open(self.noted, "a") as file:
                file.write(".")
            time.sleep(120)
""")


DRIVER = textwrap.dedent("""
    import sys

    sys.path.insert(0, sys.argv[1])
    from functools import partial
    from fake_steps import Slow
    from udever.corpus import ProcessRunner, Reading, run_job

    if __name__ == "__main__":
        load = partial(Slow, sys.argv[3] + ".at-work")
        reading = Reading([sys.argv[2]], window_rows=10)
        run_job(load(), reading, sys.argv[3], runner=ProcessRunner(load, workers=2), show_progress=False)
""")


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """A module that the processes of a pool can import: theirs is the path of this one."""
    (tmp_path / "code").mkdir()
    conftest = str(Path(__file__).with_name("conftest.py"))
    (tmp_path / "code" / "fake_steps.py").write_text(MODULE.format(conftest=conftest))
    monkeypatch.syspath_prepend(tmp_path / "code")
    import fake_steps

    yield fake_steps
    del __import__("sys").modules["fake_steps"]


def test_two_processes_write_the_folder_of_one(corpus, steps, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", [*texts, *texts[:15]])  # later windows share texts with the first ones
    options = {"failing": ["text number 44 " + "word " * 8]}
    load = partial(steps.Whole, **options)
    corpus.run(load(), path, tmp_path / "here")
    summary = corpus.run(load(), path, tmp_path / "out", runner=ProcessRunner(load, workers=2))
    assert summary.num_texts
    assert corpus.read(tmp_path / "out") == corpus.read(tmp_path / "here")
    names = [sorted(file.name for file in (tmp_path / name / "shards").iterdir()) for name in ("out", "here")]
    assert names[0] == names[1]
    assert len(audit(tmp_path / "out").findings) == len(audit(tmp_path / "here").findings)


def test_a_process_that_dies_ends_the_run_and_leaves_what_is_done(corpus, steps, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts[:20])
    with pytest.raises(OutputError, match="a worker process died; finished work is kept: run the same command again"):
        corpus.run(steps.Dying(), path, tmp_path / "out", runner=ProcessRunner(steps.Dying, workers=2))
    again = corpus.run(steps.Whole(), path, tmp_path / "out")
    assert again.num_rows == 20


def test_workers_end_with_their_driver_however_that_ends(corpus, steps, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts[:20])
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "code"), str(path), str(tmp_path / "out")]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE)
    noted, deadline = tmp_path / "out.at-work", time.monotonic() + 60
    while not (noted.is_file() and len(noted.read_text()) == 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.kill()
    driver.communicate(timeout=30)  # which ends when nobody has the pipe any more
    assert noted.read_text() == ".."


def test_one_worker_is_this_process_and_none_makes_no_sense():
    assert runner_for(lambda: None, None, 1, 1, 0) is run_here
    assert isinstance(runner_for(lambda: None, None, 2, 1, 0), ProcessRunner)
    with pytest.raises(RecipeError, match="workers is 0, threads 1; expected at least 1"):
        runner_for(lambda: None, None, 0, 1, 0)
