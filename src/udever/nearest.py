"""What a mistyped name was likely meant to be: words and paths."""

import difflib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

_LIKENESS = 0.6
_MOST_ENTRIES = 10_000
"""Of a folder, so that a mistyped path below a huge one is told at once."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, capital letters or not; None where none is near."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=_LIKENESS)
    return by_lower[found[0]] if found else None


def meant(word: str, known: Iterable[str], otherwise: str) -> str:
    """The end of a message about an unknown word: `did you mean 'x'?`, else `otherwise`."""
    near = nearest(word, known)
    return otherwise if near is None else f"did you mean {near!r}?"


def suggestion(word: str, known: Iterable[str], otherwise: str = "expected") -> str:
    """As `meant`; `otherwise` and all known ones."""
    names = list(known)
    return meant(word, names, f"{otherwise} {', '.join(names)}")


def near_path(path: str | Path) -> str | None:
    """The path that exists and is most like one that does not, part for part; None where a part is like none."""
    given = Path(path)
    here = Path(given.anchor)
    for part in given.relative_to(given.anchor).parts:
        meant: str | None = part
        if not (here / part).exists():
            meant = nearest(part, _entries(here))
        if meant is None:
            return None
        here /= meant
    return None if here == given else str(here)


def _entries(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, _MOST_ENTRIES)]
    except OSError:
        return []


def path_suggestion(path: str | Path, otherwise: str) -> str:
    """The end of a message about a path that does not exist: the nearest one that does, else `otherwise`."""
    near = near_path(path)
    return otherwise if near is None else f"did you mean {near}?"
