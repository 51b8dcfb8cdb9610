"""Drop rows that say what another row says: equal texts, near-equal texts, docstrings that many share.

Near duplicates are found by MinHash and confirmed by the exact Jaccard similarity of their shingles
(`udever.text.minhash`).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import compress
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from udever.pairs.schema import Pair
from udever.source.text import one_line
from udever.text.grouping import THRESHOLD
from udever.text.minhash import MinHashIndex

MAX_SAME_ANCHOR = 3
"""An anchor that more rows share says too little about any of them: one row keeps it."""

_CHUNK_TEXTS = 512

Family = Literal["code", "docs", "translations"]


def family(pair: Pair) -> Family:
    """Say which of the three kinds of mined rows `pair` is; rows are compared within a family only."""
    if pair.kind == "symmetric":
        return "translations"
    return "code" if (pair.positive_language or "").endswith("-Code") else "docs"


def _canonical(pair: Pair) -> tuple[str, ...]:
    return (pair.source or "", pair.anchor, pair.positive, pair.positive_language or "")


def _key(pair: Pair) -> tuple[str, ...]:
    """What pairs that are duplicates share."""
    kind = family(pair)
    key = (kind, one_line(pair.positive))
    return (*key, one_line(pair.anchor), pair.positive_language or "") if kind == "translations" else key


def _are_near_copies(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which texts are near to one before them that is no near copy itself."""
    index = MinHashIndex(texts)
    kept = np.zeros(len(texts), bool)
    for start in range(0, len(texts), _CHUNK_TEXTS):  # a chunk is compared with what was kept, not with all copies
        chunk = texts[start : start + _CHUNK_TEXTS]
        kept[start : start + len(chunk)] = True
        for place, earlier in index.near(chunk, threshold=THRESHOLD, open_=kept):
            if earlier < start + place and kept[earlier]:
                kept[start + place] = False
    return ~kept


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
    distinct: dict[tuple[str, ...], Pair] = {}
    for pair in sorted(pairs, key=_canonical):
        distinct.setdefault(_key(pair), pair)
    rows = list(distinct.values())
    # Short messages differ by a word and mean the opposite; of translations only equal ones are duplicates.
    copies: set[int] = set()
    for kind in ("code", "docs"):
        places = [place for place, pair in enumerate(rows) if family(pair) == kind]
        copies.update(compress(places, _are_near_copies([rows[place].positive for place in places])))
    counts = {"row: duplicate": len(pairs) - len(rows), "row: near duplicate": len(copies)}
    skipped.update({reason: count for reason, count in counts.items() if count})
    kept = [pair for place, pair in enumerate(rows) if place not in copies]
    return _shared_anchors(kept, skipped)
