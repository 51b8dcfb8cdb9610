"""Drop rows that say what another row says: equal texts, near-equal texts, docstrings that many share.

Near duplicates are found by MinHash and confirmed by the exact Jaccard similarity of their shingles
(`udever.text.minhash`).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from udever.pairs.schema import Pair
from udever.source.text import one_line
from udever.text.minhash import BAND_ROWS, NUM_HASHES, SURE_MARGIN, jaccard, shingles, signature

THRESHOLD = 0.8
"""Two texts whose shingles overlap by this Jaccard similarity or more are near duplicates."""
MAX_SAME_ANCHOR = 3
"""An anchor that more rows share says too little about any of them: one row keeps it."""

Family = Literal["code", "docs", "translations"]


def family(pair: Pair) -> Family:
    """Say which of the three kinds of mined rows `pair` is; rows are compared within a family only."""
    if pair.kind == "symmetric":
        return "translations"
    return "code" if (pair.positive_language or "").endswith("-Code") else "docs"


class NearDuplicates:
    """Texts seen so far; tells whether a new one is nearly one of them."""

    def __init__(self) -> None:
        self._sets: list[NDArray[np.uint32]] = []
        self._signatures: list[NDArray[np.uint32]] = []
        self._buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)

    def add(self, text: str) -> bool:
        """Remember `text` and return True, unless it is nearly a text seen before: then return False."""
        hashes = shingles(text)
        mine = signature(hashes).astype(np.uint32)
        keys = [(band, mine[band : band + BAND_ROWS].tobytes()) for band in range(0, NUM_HASHES, BAND_ROWS)]
        candidates = sorted({index for key in keys for index in self._buckets.get(key, ())})
        if candidates and self._has_near(candidates, mine, hashes):
            return False
        for key in keys:
            self._buckets[key].append(len(self._sets))
        self._sets.append(hashes.astype(np.uint32))
        self._signatures.append(mine)
        return True

    def _has_near(self, candidates: list[int], mine: NDArray[np.uint32], hashes: NDArray[np.uint64]) -> bool:
        agreement = (np.stack([self._signatures[index] for index in candidates]) == mine).mean(axis=1)
        return any(
            jaccard(self._sets[index].astype(np.uint64), hashes) >= THRESHOLD
            for index, estimate in zip(candidates, agreement, strict=True)
            if estimate >= THRESHOLD - SURE_MARGIN
        )


def _canonical(pair: Pair) -> tuple[str, ...]:
    return (pair.source or "", pair.anchor, pair.positive, pair.positive_language or "")


def _first_reason(pair: Pair, seen: set[tuple[str, ...]], near: dict[Family, NearDuplicates]) -> str | None:
    kind = family(pair)
    key: tuple[str, ...] = (kind, one_line(pair.positive))
    if kind == "translations":
        key = (*key, one_line(pair.anchor), pair.positive_language or "")
    if key in seen:
        return "row: duplicate"
    seen.add(key)
    # Short messages differ by a word and mean the opposite; only equal ones are duplicates.
    if kind != "translations" and not near[kind].add(pair.positive):
        return "row: near duplicate"
    return None


def _shared_anchors(pairs: Sequence[Pair], skipped: Counter[str]) -> list[Pair]:
    """Keep one row of an anchor with too many; rows of one with a few share a group, so that none is
    another's negative."""
    rows: dict[tuple[Family, str], list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        if pair.group is None and family(pair) != "translations":
            rows[family(pair), one_line(pair.anchor).lower()].append(index)
    kept: dict[int, Pair] = dict(enumerate(pairs))
    for (_, anchor), indices in rows.items():
        if len(indices) > MAX_SAME_ANCHOR:
            skipped[f"row: anchor that over {MAX_SAME_ANCHOR} rows share"] += len(indices) - 1
            for index in indices[1:]:
                del kept[index]
        elif len(indices) > 1:
            group = "anchor:" + blake2b(anchor.encode(), digest_size=8).hexdigest()
            for index in indices:
                kept[index] = replace(pairs[index], group=group)
    return list(kept.values())


def dedupe(pairs: Sequence[Pair], skipped: Counter[str]) -> list[Pair]:
    """Return `pairs` without duplicates, sorted by source; what was dropped is counted in `skipped`.

    Of rows that repeat one another the first by source stays, whatever the order they came in. Code and
    documentation rows are duplicates if their positives are, translations if both texts and the language are
    equal.
    """
    seen: set[tuple[str, ...]] = set()
    near: dict[Family, NearDuplicates] = defaultdict(NearDuplicates)
    kept: list[Pair] = []
    for pair in sorted(pairs, key=_canonical):
        reason = _first_reason(pair, seen, near)
        if reason is None:
            kept.append(pair)
        else:
            skipped[reason] += 1
    return _shared_anchors(kept, skipped)
