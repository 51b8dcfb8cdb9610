import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from udever.errors import DataError
from udever.evaluation.statistics import Items, _function, interval, paired_interval, statistic


def items_of(kind, values, gold=None):
    return Items("test", "en", kind, np.asarray(values, float), None if gold is None else np.asarray(gold, float))


def best_accuracy(values, gold):
    """Every cut between two different values, written out."""
    cuts = sorted(set(values))
    return max(
        (np.mean((values >= cut) == gold) for cut in cuts[1:]),
        default=np.mean(gold),
    )


@given(st.integers(0, 10_000), st.integers(6, 40))
def test_a_draw_is_the_statistic_of_the_drawn_items(seed, size):
    rng = np.random.default_rng(seed)
    values, scores = np.round(rng.normal(size=size), 1), np.round(rng.uniform(0, 5, size), 0)
    labels = (np.arange(size) % 2).astype(float)
    drawn = rng.integers(size, size=size)
    counts = np.bincount(drawn, minlength=size)[None].astype(float)
    if len(set(scores[drawn])) > 1 and len(set(values[drawn])) > 1:
        found = _function(items_of("spearman", values, scores))(counts)[0]
        assert found == pytest.approx(spearmanr(values[drawn], scores[drawn])[0], abs=1e-9)
    if labels[drawn].any():
        found = _function(items_of("average_precision", values, labels))(counts)[0]
        assert found == pytest.approx(average_precision_score(labels[drawn], values[drawn]), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=3, max_size=30))
def test_accuracy_is_the_best_cut(rows):
    values, gold = np.array([v for v, _ in rows], float), np.array([float(g) for _, g in rows])
    if len(set(values)) > 1:
        assert statistic(items_of("accuracy", values, gold)) == pytest.approx(best_accuracy(values, gold))


@pytest.mark.parametrize("kind", ["mean", "spearman", "average_precision", "accuracy"])
def test_the_interval_holds_the_statistic_and_narrows_with_more_items(kind):
    rng = np.random.default_rng(0)

    def width(size):
        gold = (rng.uniform(size=size) < 0.5).astype(float)
        items = items_of(kind, gold + rng.normal(size=size), None if kind == "mean" else gold)
        low, high = interval(items)
        assert low <= statistic(items) + 0.02 and statistic(items) <= high + 0.02
        return high - low

    assert width(2000) < width(80)


def test_one_item_has_no_interval():
    assert interval(items_of("mean", [1.0])) is None


@pytest.mark.parametrize("kind", ["mean", "spearman", "average_precision"])
def test_a_paired_interval_sees_what_two_single_ones_do_not(kind):
    rng = np.random.default_rng(1)
    gold = (np.arange(300) % 2).astype(float)
    noise = rng.normal(size=300)
    b = items_of(kind, gold + noise, None if kind == "mean" else gold)
    a = items_of(kind, 1.2 * gold + noise + (0.1 if kind == "mean" else 0), b.gold)
    found = paired_interval(a, b)
    assert found.low > 0 and found.difference == pytest.approx(statistic(a) - statistic(b))
    assert interval(a)[0] < interval(b)[1]


def test_items_that_do_not_pair_are_refused():
    a = items_of("spearman", [1, 2, 3], [1, 2, 3])
    for b in (
        items_of("spearman", [1, 2], [1, 2]),
        items_of("spearman", [1, 2, 3], [3, 2, 1]),
        items_of("mean", [1, 2, 3]),
    ):
        with pytest.raises(DataError, match="do not pair"):
            paired_interval(a, b)
