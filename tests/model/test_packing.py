import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from udever.model.packing import Packed, few_sizes, fillers, pack, plan_batches


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=9))
def test_a_packed_batch_unpacks_to_its_texts(sequences):
    packed = pack(sequences)
    bounds = packed.cu_seqlens.tolist()
    assert [packed.tokens[a:b].tolist() for a, b in itertools.pairwise(bounds)] == sequences
    assert packed.tokens[packed.last].tolist() == [ids[-1] for ids in sequences]
    assert packed.positions.tolist() == [place for ids in sequences for place in range(len(ids))]
    assert packed.text_of_token.tolist() == [row for row, ids in enumerate(sequences) for _ in ids]


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
