"""Batches: a pure function of pairs, size, seed and pass."""

from hypothesis import given
from hypothesis import strategies as st

from udever.data.pairs import Pair
from udever.train.batches import batches_per_epoch, epoch_batches, make_batch


def some_pairs(asymmetric, symmetric):
    kinds = ["asymmetric"] * asymmetric + ["symmetric"] * symmetric
    return [Pair(f"a{i}", f"p{i}", kind=kind) for i, kind in enumerate(kinds)]


@given(st.integers(2, 30), st.integers(0, 30), st.integers(2, 8), st.integers(0, 5))
def test_one_kind_per_batch_each_pair_once_and_the_same_every_time(asymmetric, symmetric, size, epoch):
    pairs = some_pairs(asymmetric, symmetric)
    batches = list(epoch_batches(pairs, size, 7, epoch))
    used = [pair.anchor for batch in batches for pair in batch.pairs]
    assert len(used) == len(set(used))
    assert all(len({pair.kind for pair in batch.pairs}) == 1 for batch in batches)
    assert len(batches) == batches_per_epoch(pairs, size)
    assert batches == list(epoch_batches(pairs, size, 7, epoch))


def test_passes_differ():
    pairs = some_pairs(64, 0)
    assert list(epoch_batches(pairs, 8, 0, 0)) != list(epoch_batches(pairs, 8, 0, 1))
    assert list(epoch_batches(pairs, 8, 0, 0)) != list(epoch_batches(pairs, 8, 1, 0))


def test_duplicates_anchors_groups_and_negatives_are_known():
    batch = make_batch(
        [
            Pair("q1", "d1", negative="d2"),
            Pair("q2", "d2", negative="x"),
            Pair("q1", "d3", group="g"),
            Pair("q4", "d4", group="g"),
        ]
    )
    assert batch.negatives == ("d2", "x")
    known = batch.known().tolist()  # columns: d1 d2 d3 d4 | d2 x
    assert known[0] == [False, False, True, False, False, False]  # d3 answers an equal anchor
    assert known[1] == [False, False, False, False, True, False]  # d2 as a negative is q2's own positive
    assert known[2] == [True, False, False, True, False, False]  # equal anchor, and the group
    assert known[3] == [False, False, True, False, False, False]
