"""What hits may be: languages, paths, kinds; and what to say where nothing can pass."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from udever.errors import DataError
from udever.nearest import nearest, suggestion
from udever.source.chunks import KINDS
from udever.source.gitignore import Patterns
from udever.source.globs import check_pattern
from udever.source.languages import known, mteb_language, near_language

MAX_PATTERNS = 64
"""Path patterns of one search."""

_PATTERNS_S = 5.0
"""How long matching the paths of an index may take."""

_SHOWN = 8


@dataclass(frozen=True)
class Filters:
    """What hits may be. An empty entry is no condition.

    `languages` as mteb writes them (`python-Code`, `deu-Latn`; `python` and `de` do too); `paths` patterns as in a
    .gitignore, of files or folders, the last that matches deciding (`src/**`, `!src/old`); `kinds` of chunks.
    """

    languages: Sequence[str] = ()
    paths: Sequence[str] = ()
    kinds: Sequence[str] = ()

    def check_kinds(self) -> None:
        """Raise DataError for a kind that does not exist."""
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise DataError(f"kind is {unknown[0]!r}; {suggestion(unknown[0], KINDS, 'expected one of')}")


def full_language(name: str) -> str:
    """A language as the index writes it: `python` -> `python-Code`, `de` -> `deu-Latn`."""
    if known(name):
        return mteb_language(name)
    return name if "-" in name else f"{name}-Code"


def matching_paths(given: Sequence[str], paths: Iterable[str]) -> Iterator[str]:
    """The paths that the patterns want. Raises DataError for too many patterns, RecipeError for one too long."""
    if len(given) > MAX_PATTERNS:
        raise DataError(f"{len(given)} path patterns; at most {MAX_PATTERNS} go into one search")
    for pattern in given:
        check_pattern(pattern)
    patterns = Patterns(given)
    only_exceptions = all(pattern.startswith("!") for pattern in given)
    end_s = time.monotonic() + _PATTERNS_S
    for path in paths:
        if time.monotonic() > end_s:
            raise DataError(f"matching the path patterns took longer than {_PATTERNS_S:g} s; give fewer, simpler ones")
        if _passes(path, patterns, otherwise=only_exceptions):
            yield path


def _passes(path: str, patterns: Patterns, *, otherwise: bool) -> bool:
    """Whether the patterns want `path`: asked of each folder above it and of itself, the deepest answer counts."""
    parts = path.split("/")
    wanted: bool | None = None
    for number in range(1, len(parts) + 1):
        answer = patterns.decide("/".join(parts[:number]), is_folder=number < len(parts))
        wanted = wanted if answer is None else answer
    return otherwise if wanted is None else wanted


def no_language(wanted: str, languages: Mapping[str, int]) -> str:
    """What to say of a language that no text has."""
    near = near_language(wanted, languages)
    there = f"there are {_listed(sorted(languages, key=lambda n: -languages[n]))}"
    return f"no file has the language {wanted}; {there if near is None else f'did you mean {near}?'}"


def no_path(patterns: Iterable[str], paths: Iterable[str]) -> str:
    """What to say of patterns that no path matches."""
    tops = dict.fromkeys(f"{top}/" if inside else top for top, inside, _ in (p.partition("/") for p in sorted(paths)))
    given = list(patterns)
    shown = ", ".join(map(repr, given))
    near = nearest(given[0].lstrip("!").partition("/")[0], [top.rstrip("/") for top in tops]) if given else None
    if near is not None and near != given[0].lstrip("!").partition("/")[0]:
        return f"no path matches {shown[:200]}; did you mean {near!r}?"
    return f"no path matches {shown[:200]}; paths begin with {_listed(sorted(tops, key=lambda t: not t.endswith('/')))}"


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return (", ".join(names[:_SHOWN]) or "nothing") + (f" and {more:,} more" if more > 0 else "")
