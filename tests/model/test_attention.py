import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.model.attention import FlexAttention, GroupedAttention, ScoreRule
from udever.model.bloom import alibi_slopes
from udever.model.packing import pack

HEADS, DIM = 4, 8
LENGTHS = st.lists(st.integers(1, 17), min_size=1, max_size=6)

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")


def naive(query, key, value, lengths, scores, *, causal, last=False):
    """One text at a time, one softmax, no tricks."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    out, start = [], 0
    for row, length in enumerate(lengths):
        own = slice(start, start + length)
        q = query[row : row + 1] if last else query[own]
        logits = torch.einsum("qhd,khd->hqk", q, key[own]) * scores.scale
        place = torch.arange(length)
        ahead = place[None, :] - (place[-1:] if last else place)[:, None]
        if scores.slopes is not None:
            logits = logits - scores.slopes.to(logits.dtype)[:, None, None] * ahead.abs()
        hidden = torch.zeros_like(ahead, dtype=torch.bool)
        if causal:
            hidden = hidden | (ahead > 0)
        if scores.window is not None:
            hidden = hidden | (ahead.abs() >= scores.window)
        logits = logits.masked_fill(hidden, float("-inf"))
        out.append(torch.einsum("hqk,khd->qhd", logits.softmax(-1), value[own]))
        start += length
    return torch.cat(out)


def inputs(lengths, kv_heads, *, last=False, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(lengths) + kv_heads)
    rows = len(lengths) if last else sum(lengths)
    shapes = ((rows, HEADS), (sum(lengths), kv_heads), (sum(lengths), kv_heads))
    return [torch.randn(*shape, DIM, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def compare(kind, lengths, kv_heads, window, *, causal, alibi, last):
    """Output and the gradients of query, key and value: `kind` against `naive`, in float64."""
    scores = ScoreRule(DIM**-0.5, alibi_slopes(HEADS) if alibi else None, window)
    attention = kind(pack([[1] * length for length in lengths]), causal=causal)
    ours, theirs = inputs(lengths, kv_heads, last=last), inputs(lengths, kv_heads, last=last)
    out = (attention.last if last else attention.full)(*ours, scores)
    expected = naive(*theirs, lengths, scores, causal=causal, last=last)
    torch.testing.assert_close(out, expected)
    towards = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9), dtype=expected.dtype)
    (out * towards).sum().backward()
    (expected * towards).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@settings(max_examples=120)
@given(
    lengths=LENGTHS,
    kv_heads=st.sampled_from([1, 2, 4]),
    window=st.none() | st.integers(1, 20),
    causal=st.booleans(),
    alibi=st.booleans(),
    last=st.booleans(),
)
def test_grouped_attention_is_the_naive_one(lengths, kv_heads, window, causal, alibi, last):
    compare(GroupedAttention, lengths, kv_heads, window, causal=causal, alibi=alibi, last=last)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kv_heads", "window", "alibi"), [(4, None, True), (2, 3, False), (1, 5, True)])
def test_flex_attention_is_the_naive_one(kv_heads, window, alibi, causal, last):
    scores = ScoreRule(DIM**-0.5, alibi_slopes(HEADS) if alibi else None, window)
    lengths = [5, 9, 1, 9]
    attention = FlexAttention(pack([[1] * length for length in lengths]), causal=causal)
    rows = [x.detach() for x in inputs(lengths, kv_heads, last=last)]
    out = (attention.last if last else attention.full)(*rows, scores)
    torch.testing.assert_close(out, naive(*rows, lengths, scores, causal=causal, last=last))


def with_front(kind, front, lengths, kv_heads, scores, *, last):
    """Rows of `kind` behind a front laid down once, and of `naive` for each text whole."""
    packed = pack([[1] * (front + length) for length in lengths], front=front)
    attention = kind(packed, causal=True)
    query, key, value = (x.detach() for x in inputs([front, *lengths], kv_heads))
    own = query[packed.last] if last else query
    ours = (attention.last if last else attention.full)(own, key, value, scores)
    texts = [
        [*range(front), *range(end - length, end)] for end, length in zip(packed.cu_seqlens[1:], lengths, strict=True)
    ]
    whole = [x[[int(i) for text in texts for i in text]] for x in (query, key, value)]
    sizes = [front + length for length in lengths]
    expected = naive(own if last else whole[0], *whole[1:], sizes, scores, causal=True, last=last)
    if last:
        return ours, expected
    parts = expected.split(sizes)
    return ours, torch.cat([parts[0][:front], *(part[front:] for part in parts)])


@given(
    front=st.integers(1, 9),
    lengths=LENGTHS,
    kv_heads=st.sampled_from([1, 2, 4]),
    window=st.none() | st.integers(1, 20),
    alibi=st.booleans(),
    last=st.booleans(),
)
def test_what_stands_in_front_of_all_is_seen_by_all(front, lengths, kv_heads, window, alibi, last):
    scores = ScoreRule(DIM**-0.5, alibi_slopes(HEADS) if alibi else None, window)
    torch.testing.assert_close(*with_front(GroupedAttention, front, lengths, kv_heads, scores, last=last))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("kv_heads", "window", "alibi"), [(4, None, True), (1, 5, True)])
def test_flex_attention_sees_what_stands_in_front(kv_heads, window, alibi, last):
    scores = ScoreRule(DIM**-0.5, alibi_slopes(HEADS) if alibi else None, window)
    torch.testing.assert_close(*with_front(FlexAttention, 6, [5, 9, 1, 9], kv_heads, scores, last=last))


def test_layers_that_differ_in_window_do_not_share_a_mask():
    lengths = [12, 11]
    attention = GroupedAttention(pack([[1] * length for length in lengths]), causal=True)
    rows = [x.detach() for x in inputs(lengths, HEADS)]
    for window in (3, None, 6, 3):
        scores = ScoreRule(1.0, None, window)
        torch.testing.assert_close(attention.full(*rows, scores), naive(*rows, lengths, scores, causal=True))


def test_bfloat16_keeps_far_distances_apart():
    """ALiBi in bfloat16 rounds distances above 256; ours stays near the exact one."""
    lengths = [700]
    scores = ScoreRule(DIM**-0.5, alibi_slopes(HEADS))
    exact = [x.detach() for x in inputs(lengths, HEADS, dtype=torch.bfloat16)]
    attention = GroupedAttention(pack([[1] * 700]), causal=True)
    expected = naive(*(x.double() for x in exact), lengths, scores, causal=True)
    torch.testing.assert_close(attention.full(*exact, scores).double(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("alibi", [False, True])
def test_closing_tokens_in_bfloat16_hear_what_the_naive_ones_do(kv_heads, alibi):
    lengths = [5, 9, 1, 9, 40]
    query, key, value = (x.detach().bfloat16() for x in inputs(lengths, kv_heads, last=True))
    scores = ScoreRule(DIM**-0.5, alibi_slopes(HEADS) if alibi else None)
    with torch.no_grad():
        found = GroupedAttention(pack([[1] * length for length in lengths]), causal=True).last(
            query, key, value, scores
        )
    expected = naive(query.double(), key.double(), value.double(), lengths, scores, causal=True, last=True)
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-2)
