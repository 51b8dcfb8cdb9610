import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from udever.model.packing import Packed, few_sizes, fillers, pack, plan_batches, pool, shared_front, unit

NAMES = {"last": "lasttoken", "mean": "mean", "weighted_mean": "weightedmean"}
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=9))
def test_a_packed_batch_unpacks_to_its_texts(sequences):
    packed = pack(sequences)
    bounds = packed.cu_seqlens.tolist()
    assert [packed.tokens[a:b].tolist() for a, b in itertools.pairwise(bounds)] == sequences
    assert packed.tokens[packed.last].tolist() == [ids[-1] for ids in sequences]
    assert packed.positions.tolist() == [place for ids in sequences for place in range(len(ids))]
    assert packed.text_of_token.tolist() == [row for row, ids in enumerate(sequences) for _ in ids]


@given(
    st.lists(st.integers(0, 9), max_size=5), st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1)
)
def test_what_stands_in_front_of_all_is_laid_down_once(front, rests):
    sequences = [front + rest for rest in rests]
    packed = pack(sequences, front=len(front))
    assert packed.tokens.tolist() == [*front, *itertools.chain(*rests)]
    own = [place for rest in rests for place in range(len(front), len(front) + len(rest))]
    assert packed.positions.tolist() == [*range(len(front)), *own]
    assert packed.text_of_token.tolist() == [-1] * len(front) + [row for row, rest in enumerate(rests) for _ in rest]
    assert packed.tokens[packed.last].tolist() == [rest[-1] for rest in rests]


def test_a_front_is_shared_where_that_gains_something():
    long = list(range(20))
    assert shared_front([[*long, 7], [*long, 8, 9], [*long, 7, 1]]) == 20
    assert shared_front([[*long, 7], [*long, 8], [*long[:17], 7, 3]]) == 17
    assert shared_front([long, long]) == 19  # each keeps a token of its own
    assert shared_front([long]) == 0
    assert shared_front([long[:10], long[:10]]) == 0  # too short
    assert shared_front([long + [1] * 60, long + [2] * 60]) == 0  # an eighth of the tokens


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_every_text_is_in_one_batch_and_no_batch_is_over_its_budget(lengths, budget):
    batches = plan_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(batch for batch in batches)
    for batch in batches:
        assert sum(lengths[i] for i in batch) <= budget or len(batch) == 1
    ordered = [lengths[index] for batch in batches for index in batch]
    assert ordered == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120), st.integers(1, 5))
def test_no_batch_has_more_texts_than_it_may(lengths, budget, batch_size):
    batches = plan_batches(lengths, budget, batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert plan_batches(lengths, budget, 41) == plan_batches(lengths, budget)


@pytest.mark.parametrize("sequences", [[], [[]], [[1], []]])
def test_an_empty_text_cannot_be_packed(sequences):
    with pytest.raises(AssertionError):
        pack(sequences)


def test_shapes_are_checked():
    """The import hook in conftest is at work: a matrix is no run of tokens."""
    with pytest.raises(TypeCheckError):
        Packed(torch.zeros(2, 2, dtype=torch.int64), (2, 2))


@given(st.lists(st.integers(1, 512), min_size=1, max_size=200))
def test_fillers_bring_a_batch_to_one_of_few_shapes(lengths):
    more = fillers(lengths)
    filled = [*lengths, *more]
    assert all(1 <= length <= max(lengths) for length in more)
    assert few_sizes(len(filled)) == len(filled)
    assert few_sizes(sum(filled)) == sum(filled)
    assert sum(more) <= 1 + sum(lengths) // 4


def test_there_are_few_sizes_and_each_is_near():
    sizes = {few_sizes(num) for num in range(1, 4097)}
    assert len(sizes) <= 8 * 10 + 8
    assert all(num <= few_sizes(num) <= num * 9 / 8 for num in range(1, 4097))


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
