"""How sure one score is, and how sure the difference of two is, from the values of single items.

A statistic over items is the mean of their values, or one that looks at all of them at once: a rank correlation,
an average precision, the best accuracy over thresholds. The second kind is computed again for every draw. A draw is
how often each item is taken, so the items are sorted once and every draw is sums along that order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError

Statistic = Literal["mean", "spearman", "average_precision", "accuracy"]
Floats = NDArray[np.float64]

NUM_SAMPLES = 1000
CONFIDENCE = 0.95
_CHUNK_COUNTS = 2_000_000
"""Numbers drawn at a time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with the bounds that hold it with `confidence`."""

    difference: float
    low: float
    high: float
    confidence: float
    num_samples: int


@dataclass(frozen=True)
class Items:
    """What a score was computed from, item by item, in the order of the data.

    "mean": `values` are averaged. "spearman": `values` are the model's similarities, `gold` the people's.
    "average_precision" and "accuracy" (the best over all thresholds): `values` are similarities, `gold` is 0 or 1.
    `metric` is "" for the main score.
    """

    split: str
    subset: str
    statistic: Statistic
    values: Floats
    gold: Floats | None = None
    metric: str = ""


def statistic(items: Items) -> float:
    """The statistic over the items as they are."""
    return float(items.values.mean()) if items.statistic == "mean" else float(_function(items)(_once(items))[0])


def paired_bootstrap(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    num_samples: int = 10_000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The percentile interval of mean(a) - mean(b), both holding one value per query in the same order.

    Draws whole queries with replacement (Efron & Tibshirani 1993), so what makes a query hard for both
    cancels out. Raises DataError when the two are not over the same number of queries.
    """
    if len(a) != len(b) or not len(a):
        raise DataError(f"{len(a)} and {len(b)} queries cannot be paired; score both on one retrieval set")
    assert num_samples >= 1 and 0 < confidence < 1
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    # Ranks of at most ten make few distinct differences. How often each is drawn is multinomial: the same
    # distribution as drawing queries one by one, at a cost that does not grow with their number.
    values, counts = np.unique(differences, return_counts=True)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_COUNTS // len(values))
    means = np.empty(num_samples)
    for start in range(0, num_samples, chunk):
        size = min(chunk, num_samples - start)
        drawn = rng.multinomial(len(differences), counts / len(differences), size=size)
        means[start : start + size] = drawn @ values / len(differences)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(differences.mean()), float(low), float(high), confidence, num_samples)


def interval(items: Items) -> tuple[float, float] | None:
    """The percentile interval of the statistic at 95 %, or None for fewer than two items."""
    if len(items.values) < 2:
        return None
    if items.statistic == "mean":
        found = paired_bootstrap(items.values, np.zeros_like(items.values), num_samples=NUM_SAMPLES)
        return found.low, found.high
    return _bounds(_draws([items])[0])


def paired_interval(a: Items, b: Items) -> Interval:
    """The interval of the statistic of `a` minus that of `b`, both over the same items in the same order.

    Raises DataError where they are not.
    """
    same_gold = (a.gold is None) == (b.gold is None) and (
        a.gold is None or b.gold is None or np.array_equal(a.gold, b.gold)
    )
    if len(a.values) != len(b.values) or a.statistic != b.statistic or not same_gold:
        raise DataError(
            f"{a.split}/{a.subset}: {len(a.values)} and {len(b.values)} items do not pair; score both on the same data"
        )
    if a.statistic == "mean":
        return paired_bootstrap(a.values, b.values, num_samples=NUM_SAMPLES)
    difference = statistic(a) - statistic(b)
    left, right = _draws([a, b])
    low, high = _bounds(left - right)
    return Interval(difference, low, high, CONFIDENCE, NUM_SAMPLES)


def _once(items: Items) -> Floats:
    return np.ones((1, len(items.values)))


def _bounds(draws: Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws[np.isfinite(draws)], [tail, 1 - tail]) if np.isfinite(draws).any() else (np.nan,) * 2
    return float(low), float(high)


def _draws(systems: list[Items]) -> list[Floats]:
    """The statistic of each system under the same draws of items."""
    functions = [_function(items) for items in systems]
    size = len(systems[0].values)
    rng = np.random.default_rng(0)
    chunk = max(1, _CHUNK_COUNTS // size)
    found: list[list[Floats]] = [[] for _ in systems]
    for start in range(0, NUM_SAMPLES, chunk):
        rows = min(chunk, NUM_SAMPLES - start)
        taken = rng.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
        counts = np.bincount(taken.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        for parts, function in zip(found, functions, strict=True):
            parts.append(function(counts))
    return [np.concatenate(parts) for parts in found]


def _function(items: Items) -> Callable[[Floats], Floats]:
    """`counts` [draws, items] -> the statistic of each draw."""
    gold = items.gold
    assert gold is not None, "only a mean needs no gold values"
    if items.statistic == "spearman":
        return lambda counts: _correlation(counts, _ranks(counts, items.values), _ranks(counts, gold))
    return lambda counts: _over_thresholds(counts, items.values, gold, items.statistic)


def _ranks(counts: Floats, values: Floats) -> Floats:
    """Mean ranks of the items of each draw, ties sharing theirs: [draws, items]."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    mass = np.add.reduceat(counts[:, order], starts, axis=1)
    return (np.cumsum(mass, axis=1) - (mass - 1) / 2)[:, group]


def _correlation(counts: Floats, a: Floats, b: Floats) -> Floats:
    total = counts.sum(axis=1, keepdims=True)
    a = a - (counts * a).sum(axis=1, keepdims=True) / total
    b = b - (counts * b).sum(axis=1, keepdims=True) / total
    product = (counts * a * b).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw in which all values are the same has none
        return product / np.sqrt((counts * a * a).sum(axis=1) * (counts * b * b).sum(axis=1))


def _over_thresholds(counts: Floats, values: Floats, gold: Floats, statistic: Statistic) -> Floats:
    """Average precision, or the best accuracy, over cuts between distinct values, highest first."""
    _, group = np.unique(-values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    taken = counts[:, order]
    positive = np.add.reduceat(taken * gold[order], starts, axis=1)
    everything = np.add.reduceat(taken, starts, axis=1)
    found, kept = np.cumsum(positive, axis=1), np.cumsum(everything, axis=1)
    num_positive, num = found[:, -1:], kept[:, -1:]
    if statistic == "accuracy":
        # above the cut positive, below it negative; the cut below everything is none, as in mteb's evaluator
        right = found + (num - num_positive) - (kept - found)
        return right[:, : max(1, right.shape[1] - 1)].max(axis=1) / num[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(kept > 0, found / np.maximum(kept, 1), 0)
        return (precision * positive).sum(axis=1) / num_positive[:, 0]
