"""Patterns of .gitignore files, for a walk that asks at every level.

pathspec answers for a whole path at once and so has to guess which of its folders a pattern meant; where
patterns are negated its answers differ from git's (`a/**` then `!*.py`, say). Asked level by level, git's
rule is plain: the last pattern that matches decides, and what is in an ignored folder is not looked at.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_PART = re.compile(
    r"(?P<any_folders>(?:^|(?<=/))\*\*/)|(?P<all_inside>(?<=/)\*\*$)|(?P<star>\*+)|(?P<one>\?)"
    r"|(?P<set>\[[!^]?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\])|\\(?P<escaped>.)|(?P<plain>.)",
    re.DOTALL,
)
_CLASSES = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
}


def _set(text: str) -> str:
    inner = text[1:-1]
    negated = inner[:1] in ("!", "^")
    inner = re.sub(r"\[:(\w+):\]", lambda name: _CLASSES.get(name[1], ""), inner[negated:])
    inner = inner.replace("[", r"\[")
    if inner.startswith("]"):
        inner = "\\" + inner
    return f"(?!/)[{'^' if negated else ''}{inner}]"


def _translate(part: re.Match[str]) -> str:
    match part.lastgroup:
        case "any_folders":
            return "(?:.*/)?"
        case "all_inside":
            return ".+"
        case "star":
            return "[^/]*"
        case "one":
            return "[^/]"
        case "set":
            return _set(part[0])
        case group:
            return re.escape(part[group or 0])


@dataclass(frozen=True)
class Pattern:
    """One line: paths that `regex` matches whole are ignored, or, if `negated`, are not."""

    regex: re.Pattern[str]
    negated: bool
    folders_only: bool


@lru_cache(maxsize=4_096)
def parse_line(line: str) -> Pattern | None:
    """Return the pattern on one line; None for a blank line, a comment and a set git would not understand."""
    line = re.sub(r"(?<!\\)[ \t\r]+$", "", line)
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    body = line[negated:]
    folders_only = body.endswith("/")
    body = body.removesuffix("/")
    if not body:
        return None
    # A slash anywhere but at the end ties the pattern to the folder of its file.
    prefix = "" if "/" in body else "(?:.*/)?"
    try:
        regex = re.compile(prefix + "".join(map(_translate, _PART.finditer(body.removeprefix("/")))), re.DOTALL)
    except re.error:
        return None
    return Pattern(regex, negated, folders_only)


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
            if (is_folder or not pattern.folders_only) and pattern.regex.fullmatch(path):
                return not pattern.negated
        return None
