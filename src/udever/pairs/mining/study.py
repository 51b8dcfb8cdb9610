"""What is learned from besides questions: pairs from within all files, held-out ones too, but for what is asked there.

A person searches the files they have, so their code may be learned from. What documents a held-out piece may not, nor
may any text that quotes it.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from udever.pairs.mining.within import MINERS, Repository
from udever.pairs.schema import Pair
from udever.source.text import one_line
from udever.text.grouping import Held, Quoted

MAX_SAME_ANCHOR = 3
"""Of an anchor that more pairs of a kind share, as many are kept."""

_QUOTES = "row: text that quotes a held-out question"


def study(
    kinds: Sequence[str], repository: Repository, asked: Sequence[Pair], skipped: Counter[str]
) -> tuple[list[Pair], list[tuple[str, Pair]]]:
    """Return `asked` as it may be trained on beside the pairs of `kinds` from within, and those, each with its kind.

    Rows that quote a held-out question, or repeat it nearly, are dropped and counted in `skipped`, of `asked` those of
    the training files too. Pairs about one piece share a group, so that none is another's negative.
    """
    questions = [pair.anchor for pair in asked if pair.split != "train"]
    quoted = Quoted(questions)
    kept = [pair for pair in asked if pair.split != "train" or not _quotes(quoted, pair)]
    found: list[tuple[str, Pair]] = []
    if kinds:
        groups = {
            one_line(pair.positive): pair.group or _group(pair.positive) for pair in kept if pair.split == "train"
        }
        kept = [replace(p, group=p.group or groups[one_line(p.positive)]) if p.split == "train" else p for p in kept]
        found = _mined(kinds, repository, groups)
    silent = [item for item in found if not _quotes(quoted, item[1])]
    repeats = Held(questions).repeated([pair.anchor for _, pair in silent]) if questions and silent else []
    silent = [item for item, repeat in zip(silent, repeats, strict=True) if not repeat] if len(repeats) else silent
    dropped = len(asked) - len(kept) + len(found) - len(silent)
    if dropped:
        skipped[_QUOTES] += dropped
    return kept, silent


def _quotes(quoted: Quoted, pair: Pair) -> bool:
    return quoted.quoted_in(pair.anchor) or quoted.quoted_in(pair.positive)


def _group(text: str) -> str:
    return "piece:" + blake2b(one_line(text).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _mined(kinds: Sequence[str], repository: Repository, groups: dict[str, str]) -> list[tuple[str, Pair]]:
    found: list[tuple[str, Pair]] = []
    for kind in kinds:
        seen: set[tuple[str, str]] = set()
        times: dict[str, int] = defaultdict(int)
        for pair, piece in MINERS[kind](repository):
            anchor = one_line(pair.anchor).lower()
            same = (anchor, one_line(pair.positive))
            if same in seen or times[anchor] == MAX_SAME_ANCHOR:
                continue
            seen.add(same)
            times[anchor] += 1
            group = groups.get(one_line(piece.text)) or _group(piece.text)
            found.append((kind, replace(pair, group=group)))
    return found
