"""How sure a difference between two systems is, from resampling the queries they share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError

_CHUNK_COUNTS = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with the bounds that hold it with `confidence`."""

    difference: float
    low: float
    high: float
    confidence: float
    num_samples: int


def paired_bootstrap(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    num_samples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
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
