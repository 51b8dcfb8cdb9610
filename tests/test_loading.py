"""What a model folder may not do, and what its files come to: contained, bounded, one line each."""

import json
import os
import re
import shutil
import socket
import time
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from udever import Embedder
from udever.errors import ModelError, TextError


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to connect fails the test."""
    tried = []

    def connect(_, address):
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    yield
    assert not tried


def shards(name):
    def spoil(folder):
        (folder / "model.safetensors").rename(folder.parent / "x.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))

    return spoil


def setting(**changes):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def outside_modules(folder):
    modules = [{"type": "a.Transformer", "path": "../../etc"}, {"type": "a.Pooling", "path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))


def integers(folder):
    state = load_file(folder / "model.safetensors")
    state = {name: tensor.to(torch.int8) for name, tensor in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


HOSTILE = {
    "index above": (shards("../x.safetensors"), "names '../x.safetensors'; expected files"),
    "index absolute": (shards("/tmp/x.safetensors"), "names '/tmp/x.safetensors'; expected files"),
    "index names a pickle": (shards("x.bin"), "names 'x.bin'; expected files .safetensors"),
    "modules above": (outside_modules, "modules.json names '../../etc'; expected folders below its own"),
    "int8": (integers, "is I8; expected floating point, not quantised"),
    "a million layers": (
        setting(num_hidden_layers=10**6, n_layer=10**6),
        "has num_hidden_layers 1,000,000, more than its weights hold",
    ),
    "a table of 10^12 rows": (
        setting(vocab_size=10**12),
        "has vocab_size 1,000,000,000,000, more than its weights hold",
    ),
    "attention of the hub": (
        setting(attn_implementation="org/kernel"),
        "code 'org/kernel', which is not run",
    ),
    "quantised": (setting(quantization_config={"quant_method": "gptq"}), "describes quantised weights"),
    "own code": (
        setting(model_type="mine", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"}),
        "config.json cannot be used",
    ),
}


@pytest.mark.parametrize("family", ["bloom", "llama"])
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_folder_is_refused_in_one_line_and_at_once(what, family, decoders, tmp_path, no_network):
    folder = shutil.copytree(decoders(family), tmp_path / "model")
    spoil, message = HOSTILE[what]
    spoil(folder)
    start_s = time.thread_time()
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        Embedder.load(folder, dtype="float32", device="cpu")
    assert time.thread_time() - start_s < 1  # seconds of work; a model of the size asked for would take hours
    assert "\n" not in str(caught.value)


def test_every_file_of_a_saved_model_has_the_mode_of_a_new_file(embedders, tmp_path):
    before = os.umask(0o022)
    try:
        embedders("qwen3").save(tmp_path / "out")
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(modes.values()) == {"0o644"}, modes


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": "b"}, "values"),
        ({"a", "b"}, "order"),
        (b"hello", "UTF-8"),
        (3, "list of strings"),
        (np.array([["a"], ["b"]]), "2 dimensions"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_by_what_to_pass(texts, message, embedders):
    with pytest.raises(TextError, match=message):
        embedders("bloom").encode(texts)


@pytest.mark.parametrize(("package", "table"), [("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")])
def test_a_table_is_refused_by_name(package, table, embedders):
    made = getattr(import_module(package), table)({"text": ["a"]})
    with pytest.raises(TextError, match=f"{type(made).__name__}, a table; pass one column"):
        embedders("bloom").encode(made)


@pytest.mark.parametrize(
    "texts",
    [
        ("a", "b"),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        {1: "a", 2: "b"}.values(),
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_every_sequence_of_texts_is_taken(texts, embedders):
    embedder = embedders("bloom")
    np.testing.assert_array_equal(embedder.encode(texts), embedder.encode(["a", "b"]))
    np.testing.assert_array_equal(embedder.encode(text for text in texts), embedder.encode(["a", "b"]))


@pytest.mark.parametrize(
    ("package", "column"), [("pandas", "Series"), ("polars", "Series"), ("pyarrow", "array"), ("pyarrow", "chunked")]
)
def test_a_column_of_a_table_is_taken(package, column, embedders):
    module = import_module(package)
    texts = module.chunked_array([["a"], ["b"]]) if column == "chunked" else getattr(module, column)(["a", "b"])
    embedder = embedders("bloom")
    np.testing.assert_array_equal(embedder.encode(texts), embedder.encode(["a", "b"]))


@pytest.fixture
def parses(monkeypatch):
    """How often each kind of file was parsed, by Python's json or by the tokenizers library."""
    import tokenizers
    from transformers import tokenization_utils_tokenizers as theirs

    from udever.model import tokenizer_files, tokens

    counts = Counter()
    loads = json.loads

    def counted(text, *arguments, **options):
        content = loads(text, *arguments, **options)
        if isinstance(content, dict):
            counts["config.json"] += "model_type" in content
            counts["tokenizer.json"] += "added_tokens" in content and "model" in content
        return content

    class Counted:
        """`tokenizers.Tokenizer`, whose own class takes no patches."""

        def __call__(self, *arguments):
            return tokenizers.Tokenizer(*arguments)

        def __getattr__(self, name):
            counts["tokenizer.json"] += name.startswith("from_")
            return getattr(tokenizers.Tokenizer, name)

    monkeypatch.setattr(json, "loads", counted)
    monkeypatch.setattr(theirs, "TokenizerFast", Counted())
    for module in (tokens, tokenizer_files):
        monkeypatch.setattr(module, "Tokenizer", Counted())
    return counts


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gemma3_text"])
def test_configuration_and_tokenizer_are_parsed_once(family, decoders, embedders, tmp_path, parses):
    embedders(family).save(tmp_path / "saved")
    for folder in (decoders(family), tmp_path / "saved"):
        parses.clear()
        embedder = Embedder.load(folder, dtype="float32", device="cpu")
        embedder.encode(["one text"])
        assert embedder.fingerprint
        assert parses == {"config.json": 1, "tokenizer.json": 1}
