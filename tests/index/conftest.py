import hashlib
from types import SimpleNamespace

import numpy as np
import pytest


class FakeEmbedder:
    """Bags of words hashed into unit vectors: texts that share words are near one another."""

    num_dimensions = 64

    def __init__(self, fingerprint="abc123"):
        self.fingerprint = fingerprint
        self.calls = []

    def _encode(self, role, texts, dimensions):
        single = isinstance(texts, str)
        texts = [texts] if single else list(texts)
        self.calls.append((role, len(texts)))
        words = [text.lower().split() for text in texts]
        vectors = np.full((len(texts), dimensions or self.num_dimensions), 1e-3, dtype=np.float32)
        for vector, here in zip(vectors, words, strict=True):
            for word in here:
                vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % len(vector)] += 1
        num_tokens = np.array([len(here) for here in words])
        self.last_truncation = SimpleNamespace(truncated=num_tokens > 8, num_tokens=np.minimum(num_tokens, 8))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors[0] if single else vectors

    def encode_query(self, texts, *, instruction=None, dimensions=None, batch_tokens=None, show_progress=False):
        return self._encode("query", texts, dimensions)

    def encode_document(self, texts, *, instruction=None, dimensions=None, batch_tokens=None, show_progress=False):
        return self._encode("document", texts, dimensions)

    def encode(self, texts, *, instruction=None, dimensions=None, batch_tokens=None, show_progress=False):
        return self._encode("symmetric", texts, dimensions)


@pytest.fixture
def embedder():
    return FakeEmbedder()


@pytest.fixture
def other_embedder():
    return FakeEmbedder("def456")
