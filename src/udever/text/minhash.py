"""Which texts share most of their words: shingles, MinHash, and an index over many texts.

Pure functions on numpy arrays. A shingle is a run of three tokens (`scripts.token`): a word, a sign, or one
character of a script written without spaces. One hash of all shingles at a time is what makes the difference
between minutes and seconds.
"""

import zlib
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from udever.text.scripts import token

NUM_HASHES = 64
BAND_ROWS = 4
"""16 bands of 4 rows: two texts of similarity 0.8 share a band with probability 0.9998, of 0.7 with 0.988."""
SURE_MARGIN = 0.25
"""A signature's agreement this far below a threshold of 0.7 or more rules the pair out: five deviations."""

_EMPTY_TOKENS = [0, 0, 0]
_CHUNK_TEXTS = 8192

_random = np.random.default_rng(20231012)
_FACTORS = _random.integers(1, 2**63, size=NUM_HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS = _random.integers(0, 2**63, size=NUM_HASHES, dtype=np.uint64)
_MIX = _random.integers(1, 2**63, size=4, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _token_ids(text: str) -> list[int]:
    """The CRC of every token; filled with zeros to three, so that every text has a shingle."""
    ids = [zlib.crc32(found.encode("utf-8", "surrogatepass")) for found in token().findall(text)]
    return ids if len(ids) >= 3 else (ids + _EMPTY_TOKENS)[:3]


def _mixed(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The 32-bit hash of each run of three ids; two shorter than `ids`."""
    mixed = ids[:-2] * _MIX[0] + ids[1:-1] * _MIX[1] + ids[2:] * _MIX[2]
    return ((mixed ^ (mixed >> np.uint64(29))) * _MIX[3]) >> np.uint64(32)


def jaccard(left: NDArray[np.unsignedinteger], right: NDArray[np.unsignedinteger]) -> float:
    """Return the share of common shingles, from 0 to 1; both sorted and distinct."""
    common = np.intersect1d(left, right, assume_unique=True).size
    return common / (left.size + right.size - common)


def _keys(texts: Sequence[str], first: int) -> NDArray[np.uint64]:
    """Every distinct (text number << 32 | shingle) of `texts`, ascending; numbers count from `first`."""
    token_ids = [_token_ids(text) for text in texts]
    lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
    ends = np.cumsum(lengths)
    flat = np.fromiter(chain.from_iterable(token_ids), dtype=np.uint64, count=int(ends[-1]))
    owners = np.repeat(np.arange(first, first + len(texts), dtype=np.uint64), lengths)
    inside = np.ones(len(flat), dtype=bool)
    inside[ends - 1] = inside[ends - 2] = False  # a run must not reach into the next text
    return np.unique((owners[:-2] << np.uint64(32) | _mixed(flat))[inside[:-2]])


class Shingled:
    """The shingles of many texts in one array: those of text i are `hashes[starts[i] : starts[i + 1]]`."""

    def __init__(self, texts: Sequence[str]) -> None:
        hashes = [np.zeros(0, dtype=np.uint32)]
        counts = [np.zeros(1, dtype=np.int64)]
        for first in range(0, len(texts), _CHUNK_TEXTS):
            chunk = texts[first : first + _CHUNK_TEXTS]
            keys = _keys(chunk, first)
            hashes.append((keys & np.uint64(0xFFFFFFFF)).astype(np.uint32))
            counts.append(np.bincount((keys >> np.uint64(32)).astype(np.int64) - first, minlength=len(chunk)))
        self.hashes = np.concatenate(hashes)
        """Shape (shingles of all texts); sorted and distinct within a text."""
        self.starts = np.cumsum(np.concatenate(counts))
        """Shape (texts + 1)."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, index: int) -> NDArray[np.uint32]:
        """The sorted, distinct shingles of one text."""
        return self.hashes[self.starts[index] : self.starts[index + 1]]

    def signatures(self) -> NDArray[np.uint32]:
        """The MinHash of every text, shape (text, NUM_HASHES): equal in about the share that two sets overlap."""
        found = np.empty((len(self), NUM_HASHES), dtype=np.uint32)
        for first in range(0, len(self), _CHUNK_TEXTS):
            starts = self.starts[first : first + _CHUNK_TEXTS + 1]
            last = min(first + _CHUNK_TEXTS, len(self))
            hashes = self.hashes[starts[0] : self.starts[last]].astype(np.uint64)
            for row, (factor, offset) in enumerate(zip(_FACTORS, _OFFSETS, strict=True)):
                minima = np.minimum.reduceat(hashes * factor + offset, self.starts[first:last] - starts[0])
                found[first:last, row] = minima >> np.uint64(32)
        return found


def _bands(signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """One 64-bit key for each band and text, shape (band, text)."""
    banded = signatures.astype(np.uint64).reshape(len(signatures), NUM_HASHES // BAND_ROWS, BAND_ROWS)
    keys = np.zeros(banded.shape[:2], dtype=np.uint64)
    for row in range(BAND_ROWS):
        keys = (keys ^ banded[:, :, row]) * _MIX[row]
        keys ^= keys >> np.uint64(29)
    return np.ascontiguousarray(keys.T)


class MinHashIndex:
    """A fixed set of texts, to be asked which of them are near to others; about 400 bytes a text and its shingles."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._shingled = Shingled(texts)
        self._signatures = self._shingled.signatures()
        bands = _bands(self._signatures)
        self._order = np.argsort(bands, axis=1, kind="stable").astype(np.int32)
        self._keys = np.take_along_axis(bands, self._order, axis=1)

    def _candidates(self, signatures: NDArray[np.uint32], open_: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Distinct (query, text) that share a band, of the texts that `open_` marks; shape (candidate, 2)."""
        found: list[NDArray[np.int64]] = []
        for band, keys in enumerate(_bands(signatures)):
            first = np.searchsorted(self._keys[band], keys, side="left")
            counts = np.searchsorted(self._keys[band], keys, side="right") - first
            queries = np.repeat(np.arange(len(keys)), counts)
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            texts = self._order[band][np.repeat(first, counts) + within]
            kept = open_[texts]
            found.append(queries[kept] * len(open_) + texts[kept])
        both = np.unique(np.concatenate(found))
        return np.stack(np.divmod(both, max(1, len(open_))), axis=1)

    def near(
        self, texts: Sequence[str], *, threshold: float, open_: NDArray[np.bool_] | None = None
    ) -> list[tuple[int, int]]:
        """Pairs (index in `texts`, index in this set) whose shingles overlap by `threshold` or more, 0.7 to 1.

        `open_` (one flag for each text of the set) leaves the texts that are not True out of the search.
        Confirmed by the exact Jaccard similarity of the shingles; a pair is missed with the probability
        named at BAND_ROWS.
        """
        assert 0.7 <= threshold <= 1
        if not len(self._shingled) or not texts:
            return []
        asked = Shingled(texts)
        signatures = asked.signatures()
        candidates = self._candidates(signatures, np.ones(len(self._shingled), dtype=bool) if open_ is None else open_)
        agreement = (signatures[candidates[:, 0]] == self._signatures[candidates[:, 1]]).mean(axis=1)
        return [
            (query, text)
            for query, text in candidates[agreement >= threshold - SURE_MARGIN].tolist()
            if jaccard(asked.of(query), self._shingled.of(text)) >= threshold
        ]
