import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from udever.cli.app import complain, console
from udever.terminal import printable, silent_transformers

HOSTILE = "\x1b]0;owned\x07 \x9b2J \u202egnp.exe\u2066 \x7f\r\x08 \ufeff\u2028 \udc80 \U000e0041"


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_is_left_that_a_terminal_obeys(text):
    shown = printable(text)
    assert all(character.isprintable() or character in "\t\n" or _harmless(character) for character in shown)
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == json.loads(json.dumps(text))
    assert "\n" not in printable(text, one_line=True)


def _harmless(character):
    """Spaces, joiners and unassigned code points are not printable to Python and do nothing."""
    import unicodedata

    return unicodedata.category(character) in ("Zs", "Cn", "Co") or character in printable(character)


@pytest.mark.parametrize("character", [c for c in HOSTILE if not c.isalnum() and c not in " .];["])
def test_each_is_written_out(character):
    assert character not in printable(f"a{character}b")
    assert "\\u" in printable(character)


def test_words_that_need_joiners_and_marks_stay():
    for text in ("क्‍ष", "می‌خواهم", "👩‍💻", "a\tb\nc", "naïve", "שָׁלוֹם"):
        assert printable(text) == text


def test_the_console_and_complaints_escape(capsys):
    console().print(HOSTILE, highlight=False, markup=False)
    complain(HOSTILE + "\nx")
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "\\u001b" in text and "\\u202e" in text
        assert not set(text) & set("\x1b\x07\x9b\u202e\x7f\r\x08")
    assert said.err.count("\n") == 1


def test_a_search_shows_hostile_names_and_contents_as_text(tmp_path, decoders, monkeypatch):
    from udever.cli import app

    name = "a\x1b[31m\u202e.md"
    (tmp_path / name).write_text("# Title\n\nhostile \x1b]0;owned\x07 \u202e text\n")
    monkeypatch.chdir(tmp_path)
    options = ["--dtype", "float32", "--device", "cpu"]
    assert CliRunner().invoke(app, ["index", "-m", str(decoders("llama")), *options]).exit_code == 0
    for more in ([], ["--json"]):
        said = CliRunner().invoke(app, ["search", "hostile", "--mode", "words", *more])
        assert "\\u001b" in said.stdout and "\\u202e" in said.stdout
        assert not set(said.stdout) & set("\x1b\x07\u202e")
        if more:
            assert json.loads(said.stdout)["source"] == name


def test_what_transformers_says_of_weights_as_they_are_read_and_written_is_not_shown(decoders, tmp_path):
    shutil.copytree(decoders("bert"), tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(path).items() if "pooler" not in name}
    save_file(state | {"head.weight": torch.zeros(2, 2)}, path, {"format": "pt"})
    code = (
        "import sys, udever; embedder = udever.Embedder.load(sys.argv[1], pooling='mean', attention='bidirectional'); "
        "embedder.save(sys.argv[2])"
    )
    command = [sys.executable, "-c", code, tmp_path / "model", tmp_path / "saved"]
    silencing = ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")
    plain = {name: value for name, value in os.environ.items() if name not in silencing}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    assert (done.stdout, done.stderr) == ("", "")


def test_what_was_said_before_is_said_after():
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(ValueError), silent_transformers():
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.ERROR, False)
        raise ValueError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
