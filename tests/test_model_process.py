"""A model in a process of its own gives what it gives here, says the same errors, and is not needed."""

import subprocess
import sys

import numpy as np
import pytest

from udever import Embedder
from udever.errors import ModelError
from udever.model_process import ModelProcess


@pytest.fixture(scope="module")
def seedling():
    return Embedder.load("seedling")


def test_the_other_process_answers_as_this_one(seedling, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('run from the folder that is searched')")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as without:
        without.delitem(sys.modules, "torch")  # as in a command that has just begun
        begun = ModelProcess.begin()
        process = begun.__enter__()
    try:
        assert process._process is not None
        process.load("./no/such/model", "auto", "cpu")  # named first, and not the one that counts
        process.load("seedling", "auto", "cpu")
        assert (process.fingerprint, process.precision) == (seedling.fingerprint, seedling.precision)
        for role in ("query", "symmetric"):
            texts, options = ["copy a tree", "a tree"], {"prompt_name": role, "truncate_dim": 64}
            np.testing.assert_array_equal(process.encode(texts, **options), seedling.encode(texts, **options))
        with pytest.warns(UserWarning, match="1 of 1"):
            process.encode(["word " * 3000])
    finally:
        begun.__exit__(None, None, None)
    assert process._process.returncode is not None


def test_a_model_that_cannot_be_loaded_is_told_in_the_same_words():
    with ModelProcess.begin() as process:  # torch is here: no process
        process.load("./no/such/model", "auto", "cpu")
        with pytest.raises(ModelError, match="no/such/model"):
            _ = process.fingerprint


def test_a_process_that_ended_is_made_up_for(seedling):
    pipe = subprocess.PIPE
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""], stdin=pipe, stdout=pipe, text=True)
    ended.wait()
    process = ModelProcess(ended)
    process.load("seedling", "auto", "cpu")
    assert process.fingerprint == seedling.fingerprint
    np.testing.assert_array_equal(process.encode(["x"]), seedling.encode(["x"]))
    ended.communicate()
