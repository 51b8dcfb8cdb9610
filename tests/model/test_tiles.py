"""Attention over tiles: the fused kernel's in float64 to bfloat16's rounding, whatever lies in a tile with a text."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udever.model import tiles
from udever.model.attention import GroupedAttention, ScoreRule
from udever.model.bloom import alibi_slopes
from udever.model.packing import pack

HEADS, DIM = 4, 16


@pytest.fixture(autouse=True, scope="module")
def multiplies():
    """The operations are right on every processor; without bfloat16 they are slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "bfloat16_works", lambda: True)
        yield


def drawn(lengths, kv_heads):
    generator = torch.Generator().manual_seed(sum(lengths) + kv_heads)
    shapes = ((sum(lengths), heads, DIM) for heads in (HEADS, kv_heads, kv_heads))
    return [torch.randn(*shape, generator=generator).bfloat16() for shape in shapes]


def attend(lengths, rows, scores, *, causal):
    attention = GroupedAttention(pack([[1] * length for length in lengths]), causal=causal)
    with torch.no_grad():
        assert attention._take_tiles(rows[0], scores.slopes)
        return attention.full(*rows, scores)


@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=9).map(lambda lengths: [*lengths, 64]),
    kv_heads=st.sampled_from([1, 2, 4]),
    window=st.none() | st.integers(1, 40),
    kind=st.sampled_from(["causal", "alibi", "bidirectional"]),
)
def test_attention_over_tiles_is_that_of_the_fused_kernel(lengths, kv_heads, window, kind):
    scores = ScoreRule(DIM**-0.5, alibi_slopes(HEADS) if kind == "alibi" else None, window)
    rows, causal = drawn(lengths, kv_heads), kind != "bidirectional"
    found = attend(lengths, rows, scores, causal=causal)
    grouped = GroupedAttention(pack([[1] * length for length in lengths]), causal=causal)
    expected = grouped.full(*(x.double() for x in rows), scores)
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=2e-2)


def test_large_scores_keep_their_digits():
    """A score of 60 in bfloat16 is 0.1 off, which would move weights by as much."""
    query, key, value = drawn([64, 64], HEADS)
    rows, scores = ((query * 20).bfloat16(), key, value), ScoreRule(DIM**-0.5)
    grouped = GroupedAttention(pack([[1] * 64] * 2), causal=True)
    expected = grouped.full(*(x.double() for x in rows), scores)
    found = attend([64, 64], rows, scores, causal=True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-2)


def test_tiles_that_do_not_fit_a_cache_at_once_are_multiplied_in_parts(monkeypatch):
    lengths = [300, 90, *[40] * 30]
    rows, scores = drawn(lengths, 2), ScoreRule(DIM**-0.5, alibi_slopes(HEADS), 70)
    whole = attend(lengths, rows, scores, causal=True)
    monkeypatch.setattr(tiles, "_SCORES", 3 * HEADS * 64 * 64 // torch.get_num_threads())
    torch.testing.assert_close(attend(lengths, rows, scores, causal=True), whole)


def test_texts_fill_the_tiles_of_longer_ones():
    attention = tiles.Tiles(pack([[1] * length for length in (20, 90, 30, 60, 6)]), causal=True)
    assert attention._layout == {96: [[1, 4]], 64: [[3], [2, 0]]}
    assert attention._sizes == [(0, 1, 96), (96, 2, 64)]


@pytest.mark.parametrize(
    ("lengths", "dtype", "causal", "gradients"),
    [
        ([63], torch.bfloat16, True, False),
        ([513], torch.bfloat16, True, False),
        ([70], torch.float32, True, False),
        ([70], torch.bfloat16, False, False),
        ([70], torch.bfloat16, True, True),
    ],
)
def test_what_tiles_are_not_for_goes_to_the_fused_kernel(lengths, dtype, causal, gradients):
    """Few tokens, long texts, other precisions, distances both ways, gradients."""
    attention = GroupedAttention(pack([[1] * length for length in lengths]), causal=causal)
    with torch.set_grad_enabled(gradients):
        query = drawn(lengths, 1)[0].to(dtype)
        assert not attention._take_tiles(query, alibi_slopes(HEADS))


def test_a_front_that_all_texts_share_goes_to_the_fused_kernel():
    packed = pack([[1] * 80, [1] * 90], front=20)
    with torch.no_grad():
        assert not GroupedAttention(packed, causal=True)._take_tiles(drawn([130], 1)[0], None)
