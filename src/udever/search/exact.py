"""Exact nearest neighbours by inner product, in blocks, ties to the lower index."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from udever.errors import ContractError

_QUERY_BLOCK = 256
_SIGN = np.uint32(1 << 31)
_WORST = np.iinfo(np.uint64).max  # the key of no document at all: sorts behind every real one


def _keys(scores: NDArray[np.float32], first: int) -> NDArray[np.uint64]:
    """One integer for each score, smaller = better: the score above, the column (from `first`) below.

    The bits of a float order like an integer once negative numbers are flipped. With the index in the low
    half no two keys are equal, so a partition is exact and ties need no care.
    """
    if not np.isfinite(scores).all():
        raise ContractError("some embeddings are not finite numbers; embed the texts again, in float32")
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 because -0.0 == 0.0 is a tie
    ascending = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    columns = np.arange(first, first + scores.shape[1], dtype=np.uint64)
    return ((~ascending).astype(np.uint64) << np.uint64(32)) | columns


def _decode(keys: NDArray[np.uint64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    ascending = ~(keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ascending & _SIGN, ascending & ~_SIGN, ~ascending).astype(np.uint32)
    return bits.view(np.float32), (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _smallest(keys: NDArray[np.uint64], k: int) -> NDArray[np.uint64]:
    if keys.shape[1] > k:
        keys = np.partition(keys, k - 1, axis=1)[:, :k]
    return np.sort(keys, axis=1)


def rank(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `k` best columns of each row of `scores`, best first: their scores and their indices."""
    assert k >= 1 and scores.dtype == np.float32
    return _decode(_smallest(_keys(scores, 0), k))


def top_k_blocks(
    queries: NDArray[np.float32], blocks: Iterable[NDArray[np.float32]], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`top_k` over a corpus that arrives in blocks of rows, so that it never has to lie in memory whole.

    Needs memory for `queries`, k keys per query and one block; indices count across the blocks.
    """
    assert k >= 1 and queries.ndim == 2
    best = np.full((len(queries), k), _WORST, dtype=np.uint64)
    num_documents = 0
    for block in blocks:
        if block.shape[1] != queries.shape[1]:
            raise ContractError(
                f"queries have {queries.shape[1]} dimensions and documents {block.shape[1]}; "
                "embed both with the same model and dimensions"
            )
        for start in range(0, len(queries), _QUERY_BLOCK):
            rows = slice(start, start + _QUERY_BLOCK)
            found = _smallest(_keys(queries[rows] @ block.T, num_documents), k)
            best[rows] = _smallest(np.concatenate([best[rows], found], axis=1), k)
        num_documents += len(block)
    return _decode(best[:, : min(k, num_documents)])


def top_k(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int, block: int = 16_384
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `k` rows of `corpus` with the largest inner product with each query, best first.

    Returns scores and row indices, both of shape (query, min(k, documents)); equal scores are ordered by
    the lower index. Works through `block` rows of the corpus at a time.
    """

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(corpus), block):
            yield corpus[start : start + block]

    return top_k_blocks(queries, blocks(), k)


def shorten(embeddings: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """The first `dimensions` of each row, scaled to length 1."""
    cut = embeddings[:, :dimensions]
    return (cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)).astype(np.float32)
