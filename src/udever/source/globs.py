"""Paths against patterns as git writes them, in time that grows with the product of their lengths at most.

A pattern is somebody else's (a .gitignore, a request), so nothing in it may make a match try one way after another:
`*` never crosses a slash, hence a part of the pattern meets a part of the path, and within a part, as among parts
around `**`, the first place where a piece fits is as good as any later one.
"""

import re
from collections.abc import Iterator, Sequence

from udever.errors import RecipeError

MAX_PATTERN = 1_000
"""Characters of a pattern. Paths longer than 4,096 bytes do not exist on most systems; patterns are far shorter."""

_TOKEN = re.compile(
    r"(?P<stars>\*+)|(?P<one>\?)|\\(?P<escaped>.)|(?P<set>\[[!^]?+\]?+(?:\[:\w*:\]|\\.|[^\]\\])*+\])|(?P<plain>.)",
    re.DOTALL,
)
_CLASSES = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "A-Fa-f0-9",
}
_IN_SET = re.compile(r"\[:(?P<name>\w*):\]|(?P<low>\\.|.)(?:-(?P<high>\\.|[^\]]))?", re.DOTALL)
_NEVER = "(?!)"

_Part = re.Pattern[str] | None
"""A part of a pattern between slashes; None for `**`, which stands for any number of parts."""


def check_pattern(pattern: str) -> None:
    """Raise RecipeError for a pattern over MAX_PATTERN characters."""
    if len(pattern) > MAX_PATTERN:
        raise RecipeError(
            f"pattern {pattern[:20]!r}... has {len(pattern):,} characters; at most {MAX_PATTERN:,} are taken: "
            "give several shorter ones"
        )


class Glob:
    """A pattern made ready for many names, as git reads it.

    `*` and `?` stand for characters but the slash, `[...]` for one of a set, `**/` for any folders, `/**` for all that
    is inside; a pattern with a slash before its end starts at the top, any other is about the path's last part. A `!`
    or `#` at the start and a slash at the end are for the caller to take off. A pattern that `check_pattern` refuses,
    or that git could not read, matches nothing.
    """

    __slots__ = ("_name_only", "_parts")

    def __init__(self, pattern: str):
        self._parts = _parse(pattern)
        self._name_only = "/" not in pattern

    def matches(self, name: str) -> bool:
        """Whether the whole of `name`, a relative path with forward slashes, is what the pattern describes."""
        if self._parts is None:
            return False
        if self._name_only and self._parts[0] is not None:
            return self._parts[0].fullmatch(name, name.rfind("/") + 1) is not None
        return _match_parts(self._parts, name.split("/"))


def _match_parts(parts: Sequence[_Part], names: Sequence[str]) -> bool:
    at = place = 0
    back: tuple[int, int] | None = None  # behind the last `**`, and where it was last tried
    while place < len(names):
        part = parts[at] if at < len(parts) else None
        if at < len(parts) and part is None:
            back = (at + 1, place)
            at += 1
        elif part is not None and part.fullmatch(names[place]):
            at, place = at + 1, place + 1
        elif back is None:
            return False
        else:
            back = (back[0], back[1] + 1)
            at, place = back
    return at == len(parts)  # a `**` left over at the end had nothing inside to stand for


def _parse(pattern: str) -> tuple[_Part, ...] | None:
    """The parts between slashes; None for a pattern that matches nothing."""
    if len(pattern) > MAX_PATTERN:
        return None
    parts: list[_Part] = []
    for tokens in _split(pattern.removeprefix("/")):
        if "/" in pattern and len(tokens) == 1 and tokens[0].lastgroup == "stars" and len(tokens[0][0]) > 1:
            if not parts or parts[-1] is not None:
                parts.append(None)
            continue
        regex = _regex(tokens)
        if regex is None:
            return None
        parts.append(regex)
    return tuple(parts)


def _split(pattern: str) -> Iterator[list[re.Match[str]]]:
    tokens: list[re.Match[str]] = []
    for token in _TOKEN.finditer(pattern):
        if token["plain"] == "/" or token["escaped"] == "/":
            yield tokens
            tokens = []
        else:
            tokens.append(token)
    yield tokens


def _regex(tokens: Sequence[re.Match[str]]) -> re.Pattern[str] | None:
    """One part as a regular expression that never goes back: each piece behind a `*` is taken where it first fits."""
    pieces = [""]
    for token in tokens:
        match token.lastgroup:
            case "stars":
                pieces.append("")
            case "one":
                pieces[-1] += "."
            case "set":
                pieces[-1] += _set(token[0])
            case "plain" if token[0] in "[\\":  # a set that does not end, a backslash before nothing
                return None
            case group:
                pieces[-1] += re.escape(token[group or 0])
    first, *others = pieces
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}", re.DOTALL)


def _set(text: str) -> str:
    inner = text[1:-1]
    negated = inner[:1] in ("!", "^")
    members = ""
    for member in _IN_SET.finditer(inner[negated:]):
        if member["low"] is None:
            if member["name"] not in _CLASSES:
                return _NEVER
            members += _CLASSES[member["name"]]
            continue
        low, high = member["low"][-1], (member["high"] or member["low"])[-1]
        if member["high"] is None or low > high:
            members += re.escape(low)  # of a range that runs backwards git takes its start
        else:
            members += f"{re.escape(low)}-{re.escape(high)}"
    return f"[{'^' if negated else ''}{members}]"
