"""Filters that nothing can pass: what was asked for, and what there is."""

from collections.abc import Iterable, Mapping

_SHOWN = 8


def no_language(wanted: str, languages: Mapping[str, int]) -> str:
    """What to say of a language that no text has."""
    return f"no file has the language {wanted}; there are {_listed(sorted(languages, key=lambda n: -languages[n]))}"


def no_path(patterns: Iterable[str], paths: Iterable[str]) -> str:
    """What to say of patterns that no path matches."""
    tops = dict.fromkeys(f"{top}/" if inside else top for top, inside, _ in (p.partition("/") for p in sorted(paths)))
    shown = ", ".join(repr(pattern) for pattern in patterns)
    return f"no path matches {shown[:200]}; paths begin with {_listed(sorted(tops, key=lambda t: not t.endswith('/')))}"


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return (", ".join(names[:_SHOWN]) or "nothing") + (f" and {more:,} more" if more > 0 else "")
