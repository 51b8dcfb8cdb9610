"""A model whose files say all is read without transformers, and is the model that transformers reads."""

import json
import shutil

import pytest
import torch
import transformers

from udever import packaged
from udever.embedder import Embedder
from udever.model.configuration import BloomConfig, effective, read_config
from udever.model.tokenizer_files import PlainTokenizer, load_hf_tokenizer, load_plain_tokenizer
from udever.model.tokens import TextTokenizer, tokenizer_digest

SEEDLING = packaged.MODELS / "seedling"
TEXTS = ["def add(a, b):\n    return a + b", "两个数 </s> [BOQ]", "", "naïve\u0301 café 😀", "  x  "]


@pytest.fixture
def folder(tmp_path):
    """The seedling's tokenizer and configuration, to be changed."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SEEDLING / name, tmp_path)
    return tmp_path


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_it_turns_texts_into_the_ids_that_transformers_does():
    contract = Embedder.load("seedling", verify=False).contract
    plain, theirs = load_plain_tokenizer(SEEDLING), load_hf_tokenizer(SEEDLING)
    assert isinstance(plain, PlainTokenizer)
    assert tokenizer_digest(plain) == tokenizer_digest(theirs)
    ours, other = TextTokenizer(plain, contract), TextTokenizer(theirs, contract)
    for prompt in (None, "[BOQ] in: ", "</s>"):
        assert ours.encode(TEXTS, "query", prompt).ids == other.encode(TEXTS, "query", prompt).ids
    assert ours.explain(TEXTS[1], "query") == other.explain(TEXTS[1], "query")
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    assert [getattr(plain, name) for name in names] == [getattr(theirs, name) for name in names]
    assert set(plain.all_special_ids) == set(theirs.all_special_ids)
    assert isinstance(ours.base, PlainTokenizer)
    assert ours.hf.get_vocab() == theirs.get_vocab()
    assert ours.hf is ours.base
    assert ours.encode(TEXTS, "query").ids == other.encode(TEXTS, "query").ids


def test_what_is_saved_is_read_without_transformers_too(embedders, tmp_path):
    for name, embedder in (("seedling", Embedder.load("seedling")), ("bloom", embedders("bloom"))):
        embedder.save(tmp_path / name)
        assert load_plain_tokenizer(tmp_path / name) is not None
        assert isinstance(read_config(tmp_path / name), BloomConfig)
        settings = json.loads((tmp_path / name / "tokenizer_config.json").read_text())
        assert not {"is_local", "local_files_only"} & settings.keys()  # true of the machine, not of the model
        again = Embedder.load(tmp_path / name, dtype="float32")
        assert isinstance(again.tokenizer.base, PlainTokenizer)
        assert again.fingerprint == embedder.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"add_prefix_space": True},
        {"added_tokens_decoder": {"9": {"content": "<x>", "special": True}}},
        {"eos_token": {"content": "</s>"}},
        {"sep_token": "<unknown to tokenizer.json>"},
    ],
)
def test_a_tokenizer_whose_files_leave_something_to_transformers_is_left_to_it(folder, changes):
    assert load_plain_tokenizer(folder) is not None
    change(folder / "tokenizer_config.json", **changes)
    assert load_plain_tokenizer(folder) is None


def test_a_broken_tokenizer_is_left_to_transformers_which_says_what_is_wrong(folder):
    (folder / "tokenizer.json").write_text("{")
    assert load_plain_tokenizer(folder) is None


@pytest.mark.parametrize("changes", [{}, {"pad_token_id": None, "apply_residual_connection_post_layernorm": True}])
def test_a_configuration_is_the_one_that_transformers_reads(folder, tmp_path, changes):
    change(folder / "config.json", **changes)
    raw = json.loads((folder / "config.json").read_text())
    ours, theirs = read_config(folder), transformers.BloomConfig.from_dict(raw)
    assert isinstance(ours, BloomConfig)
    assert effective(ours) == effective(theirs)
    for place, config in (("ours", ours), ("theirs", theirs)):
        config.dtype = torch.float32
        config.save_pretrained(tmp_path / place)
    assert (tmp_path / "ours/config.json").read_bytes() == (tmp_path / "theirs/config.json").read_bytes()


@pytest.mark.parametrize(
    ("changes", "same"), [({"n_embed": 384}, True), ({"seq_length": 64}, True), ({"n_layer": "1"}, False)]
)
def test_a_configuration_that_says_more_or_otherwise_is_left_to_transformers(folder, changes, same):
    raw = {**json.loads((folder / "config.json").read_text()), **changes}
    assert BloomConfig.of(raw) is None
    change(folder / "config.json", **changes)
    if same:
        assert isinstance(read_config(folder), transformers.BloomConfig)
