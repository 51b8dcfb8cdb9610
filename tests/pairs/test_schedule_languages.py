"""Sampling by language: shares by the power of a language's rows, every row in turn, any batch without those before."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.pairs.columns import normalise
from udever.pairs.files import Rows
from udever.pairs.schedule import Balanced, Draws, RowTable
from udever.pairs.schema import Pair, to_table
from udever.pairs.settings import DatasetSettings


def balanced(counts, batch_size, power):
    pairs = [
        Pair(f"{language} {i}", "p", anchor_language=language, positive_language="en")
        for language, count in counts.items()
        for i in range(count)
    ]
    rows = Rows(normalise(batch, "pairs", 0) for batch in to_table(pairs).combine_chunks().to_batches())
    return Balanced(RowTable(rows), None, batch_size, power, "seed")


@given(st.lists(st.floats(0.01, 9), min_size=1, max_size=9), st.integers(0, 400))
def test_what_was_taken_is_what_the_draws_were(weights, number):
    draws = Draws(weights, "seed")
    drawn = Counter(draws.draw(i)[0] for i in range(number))
    assert draws.taken(number) == [drawn[i] for i in range(len(weights))]


@pytest.mark.parametrize(("power", "shares"), [(0.5, (2, 1)), (0.0, (1, 1)), (1.0, (4, 1))])
def test_a_language_has_its_share_of_every_batch(power, shares):
    part = balanced({"de": 64, "is": 16}, 30, power)
    for number in range(5):
        count = Counter(pair.anchor_language for pair in part.batch(number))
        expected = 30 * np.array(shares) / sum(shares)
        assert np.abs(np.array([count["de"], count["is"]]) - expected).max() <= 1


def test_every_row_of_a_language_comes_once_in_a_pass_of_its_own():
    part = balanced({"de": 30, "is": 10}, 10, 0.0)
    drawn = [pair.anchor for number in range(6) for pair in part.batch(number) if pair.anchor_language == "de"]
    assert len(drawn) == 30 == len(set(drawn))


def test_a_language_is_that_of_both_sides_and_may_be_unknown():
    pairs = [Pair("a", "b", anchor_language="de", positive_language="en"), Pair("c", "d"), Pair("e", "f")]
    rows = Rows(normalise(batch, "pairs", 0) for batch in to_table(pairs).combine_chunks().to_batches())
    part = Balanced(RowTable(rows), np.array([0, 2]), 2, 0.0, "seed")
    assert sorted(pair.anchor for pair in part.batch(0)) == ["a", "e"]


def test_a_stream_has_no_language_temperature():
    with pytest.raises(ValueError, match="languages are not known beforehand"):
        DatasetSettings(path="a.jsonl", streaming=True, language_temperature=0.5)
