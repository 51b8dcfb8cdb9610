"""The recipe's own arithmetic: the fast forward pass, growing by a layer, and what counts as the same text."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.model.attention import attention_over
from udever.model.bloom import Bloom, init_weights
from udever.model.packing import pack

RECIPE = Path(__file__).parents[2] / "recipes" / "seedling"


@pytest.fixture(scope="module")
def scripts():
    """name -> a script of the recipe as a module; the modules are forgotten afterwards, for their names are plain."""
    known = set(sys.modules)
    sys.path.insert(0, str(RECIPE))
    yield importlib.import_module
    sys.path.remove(str(RECIPE))
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(RECIPE)):
            del sys.modules[name]


def bloom(num_layers, num_heads):
    from transformers import BloomConfig

    model = Bloom(BloomConfig(vocab_size=50, hidden_size=24, n_layer=num_layers, n_head=num_heads))
    init_weights(model, 0)
    for parameter in model.parameters():  # large enough that attention is far from even
        parameter.data.mul_(10 if parameter.ndim == 2 else 1).add_(0.1)
    return model


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=12), min_size=1, max_size=9), st.sampled_from([1, 3]))
def test_the_fast_pass_of_one_layer_is_the_packages(scripts, texts, num_heads):
    packed = pack(sorted(texts, key=len, reverse=True))
    model = bloom(1, num_heads)
    with torch.no_grad():
        expected = model(attention_over(packed, causal=True), last_only=True)
        actual = scripts("fast").closing_hidden(model, packed)
    # Its last products are in bfloat16.
    assert torch.nn.functional.cosine_similarity(actual, expected).min() > 0.999


def test_the_fast_pass_has_the_packages_gradients(scripts):
    packed = pack([[3, 4, 5, 6, 1], [7, 8, 1], [9, 1]])
    gradients = []
    for run in (
        lambda m: m(attention_over(packed, causal=True), last_only=True),
        lambda m: scripts("fast").closing_hidden(m, packed),
    ):
        model = bloom(1, 2)
        run(model).square().mul(torch.linspace(0, 1, 24)).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        # A bias of the keys moves every score of a text alike: its gradient is rounding.
        actual, expected = gradients[1][name].flatten(), expected.flatten()
        assert torch.linalg.vector_norm(actual - expected) <= 0.05 * torch.linalg.vector_norm(expected) + 1e-4, name


def test_a_grown_network_is_the_same_function(scripts):
    packed = pack([[3, 4, 5, 6, 1], [7, 8, 1]])
    model = bloom(1, 2)
    taller = scripts("model").grow(model)
    assert len(taller.h) == 2
    with torch.no_grad():
        for last_only in (True, False):
            expected = model(attention_over(packed, causal=True), last_only=last_only)
            assert torch.allclose(taller(attention_over(packed, causal=True), last_only=last_only), expected, atol=1e-4)


@pytest.mark.parametrize(("one", "other"), [("Ａ  b\n c", "a b c"), ("ﬁle", "FILE"), (" x ", "X")])
def test_texts_are_compared_without_case_width_and_spacing(scripts, one, other):
    assert scripts("common").plain(one) == scripts("common").plain(other)


@given(st.text())
def test_a_split_is_for_ever(scripts, text):
    common = scripts("common")
    assert 0 <= common.position(text) < 1
    assert common.is_development(text) == common.is_development(text)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([None, "a.py", "b.py"])), min_size=1))
def test_no_text_in_any_spelling_and_no_file_is_on_both_sides(scripts, drawn):
    prepare = scripts("prepare")
    spellings = ("# Reading number {} of a file", "reading  NUMBER {} of a file:", "*Reading number {} of a file*")
    pairs = [
        {"anchor": spellings[n % 3].format(one), "positive": spellings[(n + 1) % 3].format(other), "file": file}
        for n, (one, other, file) in enumerate(drawn)
    ]
    targets = [spellings[2].format(number) for number in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "is_development", lambda key: int(key.split()[2]) % 2 == 0)
        split, sides = prepare.splits(targets, pairs)
    for row, side, (one, other, _) in zip(pairs, sides, drawn, strict=True):
        assert split[targets[one]] == split[targets[other]] == side, row
    for file in ("a.py", "b.py"):
        assert len({side for row, side in zip(pairs, sides, strict=True) if row["file"] == file}) <= 1


def test_one_text_in_a_hundred_is_for_development(scripts):
    share = sum(scripts("common").is_development(str(number)) for number in range(20_000)) / 20_000
    assert 0.008 < share < 0.012


def test_the_tokenizer_cuts_names_and_forgets_case_and_spaces(scripts):
    tokenizer = scripts("tokenizer")
    split = tokenizer.pre_tokeniser()
    words = [
        word for word, _ in split.pre_tokenize_str(tokenizer.normaliser().normalize_str("getHTTPServer_Name\n 12345x"))
    ]
    assert words == ["get", "http", "server", "_", "name", "123", "45", "x"]
    assert split.pre_tokenize_str(tokenizer.normaliser().normalize_str(" \n\t")) == []


@settings(max_examples=200)
@given(st.text())
def test_no_text_breaks_the_normaliser(scripts, text):
    tokenizer = scripts("tokenizer")
    tokenizer.pre_tokeniser().pre_tokenize_str(tokenizer.normaliser().normalize_str(text))
