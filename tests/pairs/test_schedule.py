"""Permutations and draws: bijections and shares that hold at every moment."""

import math
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from udever.pairs.schedule import Draws, key_of, permute


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_a_permutation_is_a_bijection(size, seed):
    whole = permute(np.arange(size), size, key_of(seed))
    assert sorted(whole.tolist()) == list(range(size))


@given(st.integers(2, 2**40), st.integers(0, 9), st.data())
def test_places_are_computed_alone_and_are_distinct(size, seed, data):
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=50, unique=True)))
    numbers = permute(places, size, key_of(seed))
    assert len(set(numbers.tolist())) == len(places)
    assert numbers.min() >= 0 and numbers.max() < size
    assert numbers[:1].tolist() == permute(places[:1], size, key_of(seed)).tolist()


def test_permutations_are_as_random_as_shuffles():
    """Over many keys every number stands at every place equally often, and orders do not repeat."""
    for size in (5, 16, 37):
        wholes = [permute(np.arange(size), size, key_of(seed)) for seed in range(700)]
        counts = np.zeros((size, size))
        for whole in wholes:
            counts[np.arange(size), whole] += 1
        expected = len(wholes) / size
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        freedom = (size - 1) ** 2
        assert abs(chi_square - freedom) < 6 * math.sqrt(2 * freedom)
    assert len({tuple(whole.tolist()) for whole in wholes}) == len(wholes)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=7), st.integers(0, 99), st.integers(1, 400))
def test_shares_hold_at_every_moment_and_turns_count_up(weights, seed, total):
    draws = Draws(weights, seed)
    counts = Counter()
    for number in range(total):
        which, turn = draws.draw(number)
        assert turn == counts[which]
        counts[which] += 1
        share = sum(weights)
        for thing, weight in enumerate(weights):
            assert abs(counts[thing] - (number + 1) * weight / share) <= math.log2(len(weights)) + 1.001


def test_three_to_one_is_never_off_by_one():
    for seed in range(20):
        draws = Draws([3, 1], seed)
        first = np.cumsum([draws.draw(number)[0] == 0 for number in range(4000)])
        assert np.abs(first - 0.75 * np.arange(1, 4001)).max() < 1
        assert first[-1] == 3000
    starts = {tuple(Draws([3, 1], seed).draw(number)[0] for number in range(4)) for seed in range(20)}
    assert len(starts) == 4  # the seed says where in the round it starts
