"""Divide mined rows into train and held out so that nothing held out was seen in training.

The unit is the file: a hash of the seed and its path decides, so a new file never moves another. Rows of
one group (translations of one message) can sit in files on both sides; then a hash of the group says on
which side the group stays, and its rows on the other side are dropped, as is every row of train that
repeats a held-out text: the same in any spelling, or nearly the same (`udever.text.grouping`).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from hashlib import blake2b

from udever.pairs.schema import Pair
from udever.text.grouping import Held


def position(name: str, seed: int) -> float:
    """Return where `name` falls in [0, 1), evenly, by a hash with `seed`."""
    digest = blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def choose(names: Collection[str], share: float, seed: int) -> set[str]:
    """Return the names that are held out, about `share` of them; of several, one at least and not all.

    The choice for one name depends on the others only where a side would stay empty.
    """
    ranked = sorted(set(names), key=lambda name: (position(name, seed), name))
    chosen = sum(position(name, seed) < share for name in ranked)
    if share > 0 and len(ranked) > 1:
        chosen = min(max(chosen, 1), len(ranked) - 1)
    elif len(ranked) == 1:
        chosen = 0  # a single file: all of it is for training
    return set(ranked[:chosen])


def split_pairs(pairs: Sequence[Pair], held_out: float, seed: int, skipped: Counter[str]) -> list[Pair]:
    """Return `pairs` with their split set, less the rows that would stand on both sides.

    Those are counted in `skipped`. `held_out` is the share of files held out, in [0, 1). With one file
    everything is train; with more, each side has one at least. No file, group or text is on both
    sides, nor two texts that are near-equal.
    """
    if held_out == 0:
        return [replace(pair, split="train") for pair in pairs]
    files = choose({pair.source or "" for pair in pairs}, held_out, seed)
    is_held = [(pair.source or "") in files for pair in pairs]

    sides: dict[str, set[bool]] = {}
    for pair, held in zip(pairs, is_held, strict=True):
        if pair.group is not None:
            sides.setdefault(pair.group, set()).add(held)
    straddling = [group for group, found in sides.items() if len(found) == 2]
    held_groups = choose(straddling, held_out, seed)
    kept: list[Pair] = []
    for pair, held in zip(pairs, is_held, strict=True):
        if pair.group in sides and len(sides[pair.group]) == 2 and held != (pair.group in held_groups):
            skipped["row: same group on the other side of the split"] += 1
        else:
            kept.append(replace(pair, split="held_out" if held else "train"))

    held = Held(text for pair in kept if pair.split == "held_out" for text in (pair.anchor, pair.positive))
    train = [pair for pair in kept if pair.split == "train"]
    anchors, positives = ([getattr(pair, side) for pair in train] for side in ("anchor", "positive"))
    repeats = iter(held.repeated(anchors) | held.repeated(positives))
    result = [pair for pair in kept if pair.split == "held_out" or not next(repeats)]
    if len(result) < len(kept):
        skipped["row: text that is held out, exactly or nearly"] += len(kept) - len(result)
    return result
