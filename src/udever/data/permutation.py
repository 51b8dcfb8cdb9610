"""A random order of the numbers below n that is computed place by place and never stored."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))


def key_of(*parts: object) -> bytes:
    """A key for `permute` and `Draws`: another for every sequence of parts."""
    return blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8 * _ROUNDS).digest()


def permute(places: NDArray[np.int64], size: int, key: bytes) -> NDArray[np.int64]:
    """What stands at `places` (each in [0, size)) of the permutation of range(size) that `key` names.

    A Feistel network over the least even number of bits that holds `size`: a bijection of a range of less than
    four times the size. What falls outside is sent through again until it falls inside (cycle walking, Black and
    Rogaway 2002), which keeps it a bijection.
    """
    assert size >= 1 and len(key) == 8 * _ROUNDS
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = np.frombuffer(key, dtype="<u8")
    out = _network(places.astype(np.uint64), half, keys)
    outside = out >= size
    while outside.any():
        out[outside] = _network(out[outside], half, keys)
        outside = out >= size
    return out.astype(np.int64)


def _network(values: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_scramble(right ^ key) & mask)
    return (left << half) | right


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of the result hangs on every bit of the value (the closing steps of MurmurHash3)."""
    shift = np.uint64(33)
    values = (values ^ (values >> shift)) * _MIX[0]
    values = (values ^ (values >> shift)) * _MIX[1]
    return values ^ (values >> shift)
