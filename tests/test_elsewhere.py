"""A model in a process of its own gives what it gives here, says the same errors, and is not needed."""

import subprocess
import sys

import numpy as np
import pytest

from udever import Embedder
from udever.elsewhere import Elsewhere
from udever.errors import ModelError


@pytest.fixture(scope="module")
def seedling():
    return Embedder.load("seedling")


def test_the_other_process_answers_as_this_one(seedling, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('run from the folder that is searched')")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as without:
        without.delitem(sys.modules, "torch")  # as in a command that has just begun
        begun = Elsewhere.begin()
        elsewhere = begun.__enter__()
    try:
        assert elsewhere._process is not None
        elsewhere.load("./no/such/model", "auto", "cpu")  # named first, and not the one that counts
        elsewhere.load("seedling", "auto", "cpu")
        assert (elsewhere.fingerprint, elsewhere.precision) == (seedling.fingerprint, seedling.precision)
        texts, options = ["copy a tree", "a tree"], {"truncate_dim": 64}
        found = elsewhere.encode_query(texts, **options)
        np.testing.assert_array_equal(found, seedling.encode_query(texts, **options))
        with pytest.warns(UserWarning, match="1 of 1"):
            elsewhere.encode_query(["word " * 3000])
    finally:
        begun.__exit__(None, None, None)
    assert elsewhere._process.returncode is not None


def test_a_model_that_cannot_be_loaded_is_told_in_the_same_words():
    with Elsewhere.begin() as elsewhere:  # torch is here: no process
        elsewhere.load("./no/such/model", "auto", "cpu")
        with pytest.raises(ModelError, match="no/such/model"):
            _ = elsewhere.fingerprint


def test_a_process_that_ended_is_made_up_for(seedling):
    pipe = subprocess.PIPE
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""], stdin=pipe, stdout=pipe, text=True)
    ended.wait()
    elsewhere = Elsewhere(ended)
    elsewhere.load("seedling", "auto", "cpu")
    assert elsewhere.fingerprint == seedling.fingerprint
    np.testing.assert_array_equal(elsewhere.encode_query(["x"]), seedling.encode_query(["x"]))
    ended.communicate()
