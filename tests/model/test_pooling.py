import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udever.model.packing import pack
from udever.model.pooling import pool, unit

NAMES = {"last": "lasttoken", "mean": "mean", "weighted_mean": "weightedmean"}
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def batch(lengths, dim=5):
    """A packed batch, its hidden states, and the same as a right-padded rectangle with its mask."""
    packed = pack([[1] * length for length in lengths])
    hidden = torch.randn(sum(lengths), dim, generator=torch.Generator().manual_seed(len(lengths)))
    padded = torch.nn.utils.rnn.pad_sequence(hidden.split(lengths), batch_first=True, padding_value=1e3)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return packed, hidden, padded, mask


@pytest.mark.parametrize("pooling", NAMES)
@given(lengths=LENGTHS, prompt=st.integers(0, 14))
def test_pooling_is_sentence_transformers(pooling, lengths, prompt):
    from sentence_transformers.sentence_transformer.modules import Pooling

    if pooling != "last":  # the reference divides by nothing where the prompt is the whole text
        prompt = min(prompt, min(lengths) - 1)
    packed, hidden, padded, mask = batch(lengths)
    reference = Pooling(hidden.shape[1], pooling_mode=NAMES[pooling], include_prompt=prompt == 0)
    features = {"token_embeddings": padded, "attention_mask": mask.clone()}
    if prompt and pooling != "last":
        features["prompt_length"] = prompt
    expected = reference(features)["sentence_embedding"]
    skip = torch.full((len(lengths),), prompt) if prompt else None
    torch.testing.assert_close(pool(hidden, packed, pooling, skip), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
def test_a_text_that_is_prompt_alone_keeps_its_closing_token(pooling):
    packed, hidden, _, _ = batch([3, 6])
    pooled = pool(hidden, packed, pooling, torch.tensor([5, 6]))
    torch.testing.assert_close(pooled, hidden[packed.last])


def test_sums_are_taken_in_float32():
    packed = pack([[1] * 4000])
    hidden = torch.full((4000, 2), 1.0, dtype=torch.bfloat16)
    assert pool(hidden, packed, "mean").tolist() == [[1.0, 1.0]]
    assert pool(hidden.double(), packed, "mean").dtype is torch.float64


@given(st.integers(1, 8))
def test_unit_cuts_and_then_scales(dimensions):
    vectors = torch.randn(4, 8, generator=torch.Generator().manual_seed(dimensions))
    cut = unit(vectors, dimensions)
    assert cut.shape == (4, dimensions)
    torch.testing.assert_close(cut.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(cut, vectors[:, :dimensions] / vectors[:, :dimensions].norm(dim=1, keepdim=True))
