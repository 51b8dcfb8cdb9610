"""Embeddings whose classes are known clouds, so that what a filter should find is known too."""

import numpy as np
import pytest

from udever.classify import Examples


def clouds(num_examples, num_labels=3, dimensions=16, noise=1.0, seed=0, centres_seed=0):
    """Unit vectors around one centre for each label, and the label of each."""
    centres = np.random.default_rng(centres_seed).normal(size=(num_labels, dimensions))
    rng = np.random.default_rng(seed + 1)
    label = rng.integers(0, num_labels, num_examples)
    x = centres[label] + noise * rng.normal(size=(num_examples, dimensions))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), label


def one_label_each(label, languages=None, groups=None):
    """Examples with the labels "c0", "c1", ..."""
    texts = [f"text {row}" for row in range(len(label))]
    return Examples(texts, [(f"c{one}",) for one in label], languages, "one", groups)


@pytest.fixture
def cloud():
    return clouds


@pytest.fixture
def labelled():
    return one_label_each
