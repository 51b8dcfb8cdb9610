"""Patterns of .gitignore files, for a walk that asks at every level.

pathspec answers for a whole path at once and so has to guess which of its folders a pattern meant; where
patterns are negated its answers differ from git's (`a/**` then `!*.py`, say). Asked level by level, git's
rule is plain: the last pattern that matches decides, and what is in an ignored folder is not looked at.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from udever.source.globs import Glob


@dataclass(frozen=True)
class Pattern:
    """One line: paths that `glob` matches are ignored, or, if `negated`, are not."""

    glob: Glob
    negated: bool
    folders_only: bool


@lru_cache(maxsize=4_096)
def parse_line(line: str) -> Pattern | None:
    """Return the pattern on one line; None for a blank line and a comment."""
    line = _without_last_spaces(line.removesuffix("\r"))
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    body = line[negated:]
    folders_only = body.endswith("/")
    body = body.removesuffix("/")
    return Pattern(Glob(body), negated, folders_only) if body else None


def _without_last_spaces(line: str) -> str:
    """`line` without the spaces at its end, but for one that a backslash keeps."""
    bare = line.rstrip(" ")
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return line[: len(bare) + 1] if backslashes % 2 else bare


class Patterns:
    """The patterns of one .gitignore."""

    def __init__(self, lines: Iterable[str]):
        self._patterns = [pattern for pattern in map(parse_line, lines) if pattern is not None]
        self._patterns.reverse()

    def decide(self, path: str, *, is_folder: bool) -> bool | None:
        """Return whether `path` (relative, no slash at its end) is ignored; None where no pattern matches it.

        The folders above `path` are taken to have been asked for before.
        """
        for pattern in self._patterns:
            if (is_folder or not pattern.folders_only) and pattern.glob.matches(path):
                return not pattern.negated
        return None
