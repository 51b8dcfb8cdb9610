"""Pairs that files hold beside their documentation: names, comments, mentions, tests, messages, commits -> the code.

Nothing here reads a docstring or a doc comment: pieces come without them. So all files may be learned from, held-out
ones too, whose questions are their documentation (`pipeline` drops what quotes it all the same).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from udever.pairs.mining.code import comment_text, num_lines
from udever.pairs.mining.pieces import Piece
from udever.pairs.schema import Pair
from udever.source.history import Commit
from udever.source.text import dedent
from udever.text.words import name_parts, num_words

MASK = "_"
"""What stands for the name, or the message, that is asked for."""

_MIN_NAME_WORDS = 2
_MIN_WORDS, _MAX_WORDS = 4, 60
_MIN_BLOCK_LINES = 2
_MAX_BLOCK_LINES = 40
_MIN_LINES_BROUGHT, _MIN_LINE_CHARS = 2, 6
_MAX_FUNCTIONS_CHANGED, _MIN_SHARE_HELD = 3, 1 / 3
_MAX_COMMITS = 5

_HASH = frozenset({"python-Code", "ruby-Code"})
_COMMENT = {True: re.compile(r"[ \t]*#(?![!:])"), False: re.compile(r"[ \t]*//(?!/)")}
_DIRECTIVE = re.compile(
    r"\b(?:TODO|FIXME|XXX|HACK|noqa|pragma|pylint|mypy|type:|fmt:|eslint|@ts-|prettier|tslint|NOLINT|rubocop|"
    r"SPDX|Copyright|istanbul)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"[;{}=]\s*$|^\s*(?:if|for|while|return|import|from|var|let|const|def)\b.*[(:=]")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*])|\n\s*\n")
_IN_TESTS = re.compile(
    r"(?:^|/)(?:tests?|__tests__|specs?)/|(?:^|/)test_[^/]*$|[._]test\.[^/]*$|[._]spec\.[^/]*$|Tests?\.\w+$"
)
_MESSAGE = re.compile(
    r"\b(?:raise|throw|panic|bail|abort|log(?:ger|ging)?|warn(?:ing)?|errorf?|fatal|fail|assert|expect|Exception)\b"
    r"[^\"'`\n]{0,80}?(?P<quote>[\"'`])(?P<said>[^\"'`\n]{12,300})(?P=quote)"
)
_HOLES = re.compile(r"%\(?\w*\)?[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]|\$?\{[^{}]*\}|\\[nrt]")


@dataclass(frozen=True)
class Repository:
    """Everything that was read, to be looked up by name."""

    pieces: Sequence[Piece]
    changes: Sequence[Commit] = ()

    @cached_property
    def lines(self) -> Mapping[str, Sequence[tuple[Piece, frozenset[str]]]]:
        """By file its functions, each with the lines that no other function of the file has."""
        found: dict[str, list[tuple[Piece, set[str]]]] = defaultdict(list)
        for piece in self.pieces:
            if piece.kind == "function" and piece.is_searched:
                said = {line.strip() for line in piece.text.split("\n")}
                found[piece.source].append((piece, {line for line in said if len(line) >= _MIN_LINE_CHARS}))
        times = {source: Counter(line for _, said in own for line in said) for source, own in found.items()}
        return {
            source: [(piece, frozenset(line for line in said if times[source][line] == 1)) for piece, said in own]
            for source, own in found.items()
        }

    @cached_property
    def by_name(self) -> Mapping[str, Piece]:
        """The functions and classes whose name nothing else has; tests are none."""
        named: dict[str, list[Piece]] = defaultdict(list)
        for piece in self.pieces:
            if piece.kind != "section" and piece.is_searched and not is_test(piece):
                named[_last(piece.name)].append(piece)
        return {name: found[0] for name, found in named.items() if len(found) == 1 and len(name) > 2}


Miner = Callable[[Repository], Iterator[tuple[Pair, Piece]]]
"""Gives pairs, and the piece that the positive is or is part of."""


def is_test(piece: Piece) -> bool:
    """Whether it stands among tests by its path."""
    return bool(_IN_TESTS.search(piece.source))


def _last(name: str) -> str:
    """Without what the name is qualified by: `Shop::total` is `total`."""
    return re.split(r"::|\.|->", name)[-1].strip("~ ")


def _pair(anchor: str, positive: str, piece: Piece) -> tuple[Pair, Piece]:
    return Pair(anchor, positive, positive_language=piece.language, source=piece.source), piece


def names(repository: Repository) -> Iterator[tuple[Pair, Piece]]:
    """The words of a function's or class's name -> its text with the name masked.

    A name of one word is told with that of the class around it.
    """
    for piece in repository.pieces:
        name = _last(piece.name)
        if piece.kind == "section" or not piece.is_searched or len(name) < 2:
            continue
        said = name_parts(name)
        if len(said) < _MIN_NAME_WORDS:
            said = said + name_parts(_last(piece.parent))
        if len(said) >= _MIN_NAME_WORDS:
            yield _pair(" ".join(said), masked(piece.text, name), piece)


def masked(text: str, name: str) -> str:
    """`text` with MASK for each `name` that stands by itself."""
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", MASK, text)


def comments(repository: Repository) -> Iterator[tuple[Pair, Piece]]:
    """A comment inside a function -> the block of code below it."""
    for piece in repository.pieces:
        if piece.kind == "function" and piece.is_searched:
            for said, block in _blocks(piece.text.split("\n"), _COMMENT[piece.language in _HASH]):
                yield _pair(said, block, piece)


def _blocks(lines: Sequence[str], mark: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    row = 0
    while row < len(lines):
        first = row
        while row < len(lines) and mark.match(lines[row]):
            row += 1
        if row == first:
            row += 1
            continue
        said = comment_text(list(lines[first:row]))
        indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
        last = row
        while (
            last < len(lines) and lines[last].strip() and lines[last].startswith(indent) and not mark.match(lines[last])
        ):
            last += 1
        block = dedent(lines[row : min(last, row + _MAX_BLOCK_LINES)], indent)
        tells = _MIN_WORDS <= num_words(said) <= _MAX_WORDS and not _DIRECTIVE.search(said) and not _CODE.search(said)
        if tells and num_lines(block) >= _MIN_BLOCK_LINES:
            yield said, block


def mentions(repository: Repository) -> Iterator[tuple[Pair, Piece]]:
    """A sentence of the documentation that names one function or class, its name taken apart -> that."""
    for page in repository.pieces:
        if page.kind != "section":
            continue
        for sentence in _SENTENCE.split(page.text):
            found = {
                name
                for name in _IDENTIFIER.findall(sentence)
                if _is_name(name, sentence) and name in repository.by_name
            }
            if len(found) == 1 and _MIN_WORDS <= num_words(sentence) <= _MAX_WORDS:
                (name,) = found
                said = re.sub(rf"`*(?<!\w){re.escape(name)}(?!\w)(?:\(\))?`*", " ".join(name_parts(name)), sentence)
                yield _pair(" ".join(said.split()), repository.by_name[name].text, repository.by_name[name])


def _is_name(word: str, sentence: str) -> bool:
    """Whether a word of prose is meant as a name: it is joined from several, quoted, or called."""
    return len(name_parts(word)) > 1 or f"`{word}`" in sentence or f"{word}()" in sentence


def tests(repository: Repository) -> Iterator[tuple[Pair, Piece]]:
    """The words of a test's name -> the function it calls whose name is among them."""
    for piece in repository.pieces:
        if piece.kind != "function" or not is_test(piece):
            continue
        said = [part for part in name_parts(_last(piece.name)) if part not in ("test", "tests", "should")]
        if len(said) < _MIN_NAME_WORDS + 1:
            continue
        called = {name for name in _CALL.findall(piece.text) if name in repository.by_name}
        meant = [name for name in called if set(name_parts(name)) <= set(said)]
        if meant:
            name = max(sorted(meant), key=lambda name: len(name_parts(name)))
            yield _pair(" ".join(said), masked(repository.by_name[name].text, name), repository.by_name[name])


def messages(repository: Repository) -> Iterator[tuple[Pair, Piece]]:
    """What an exception or a log line says -> the function that says it, without the words."""
    for piece in repository.pieces:
        if piece.kind != "function" or not piece.is_searched or is_test(piece):
            continue
        for match in _MESSAGE.finditer(piece.text):
            said = " ".join(_HOLES.sub(" ", match["said"]).split())
            if _MIN_WORDS <= num_words(said) <= _MAX_WORDS:
                yield _pair(said, piece.text.replace(match["said"], MASK), piece)


def commits(repository: Repository) -> Iterator[tuple[Pair, Piece]]:
    """The message of a commit -> each function that holds lines it brought, if few hold a good part of all it brought.

    At most _MAX_COMMITS for a function, the newest.
    """
    times: Counter[Piece] = Counter()
    for change in repository.changes:
        held = {
            piece: len(own & brought)
            for source, brought in change.lines.items()
            for piece, own in repository.lines.get(source, ())
            if len(own & brought) >= _MIN_LINES_BROUGHT
        }
        num_brought = sum(map(len, change.lines.values()))
        if len(held) > _MAX_FUNCTIONS_CHANGED or sum(held.values()) < _MIN_SHARE_HELD * num_brought:
            continue
        for piece in held:
            times[piece] += 1
            if times[piece] <= _MAX_COMMITS:
                yield _pair(change.message, piece.text, piece)


MINERS: Mapping[str, Miner] = {
    "names": names,
    "comments": comments,
    "mentions": mentions,
    "tests": tests,
    "messages": messages,
    "commits": commits,
}
"""What is mined from within, by the name of its kind."""
