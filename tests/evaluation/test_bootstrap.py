import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.errors import DataError
from udever.evaluation import statistics as module
from udever.evaluation.statistics import paired_bootstrap


def by_resampling(differences, num_samples, confidence, seed=1):
    """Draw the queries one by one."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), (num_samples, len(differences)))
    tail = (1 - confidence) / 2
    return np.quantile(differences[drawn].mean(axis=1), [tail, 1 - tail])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.integers(20, 120), st.sampled_from([0.8, 0.95]))
def test_the_interval_is_that_of_plain_resampling(seed, num_queries, confidence):
    rng = np.random.default_rng(seed)
    a, b = (1 / rng.integers(1, 11, num_queries) for _ in range(2))
    interval = paired_bootstrap(a, b, confidence=confidence)
    assert interval.difference == pytest.approx((a - b).mean())
    spread = (a - b).std() / np.sqrt(num_queries)
    expected = by_resampling(a - b, 10_000, confidence)
    np.testing.assert_allclose([interval.low, interval.high], expected, atol=0.1 * spread)


def test_pairing_cancels_what_queries_share():
    hard = np.random.default_rng(0).random(200)
    interval = paired_bootstrap(hard + 0.1, hard)
    assert (interval.low, interval.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_chunks_and_seed(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50)
    monkeypatch.setattr(module, "_CHUNK_COUNTS", 333)
    first = paired_bootstrap(a, b, num_samples=1001)
    assert first == paired_bootstrap(a, b, num_samples=1001)
    assert first.low != paired_bootstrap(a, b, num_samples=1001, seed=1).low
    assert first.low < first.difference < first.high
    assert (first.num_samples, first.confidence) == (1001, 0.95)


def test_other_queries_are_refused():
    with pytest.raises(DataError, match="3 and 2 queries"):
        paired_bootstrap(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="0 and 0 queries"):
        paired_bootstrap(np.zeros(0), np.zeros(0))
