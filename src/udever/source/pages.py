"""Documents: Markdown, reStructuredText and HTML, split at their headings.

A section's text is its own: what stands under its subsections belongs to those.
"""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import compress

import yaml
from bs4.exceptions import ParserRejectedMarkup
from markdown_it import MarkdownIt
from markdown_it.token import Token

from udever.source.html import html_sections
from udever.source.sections import Outline, TextSection

_FENCED = re.compile(r"\A(?P<fence>---|\+\+\+)[ \t]*\n(?P<inside>(?:.*\n){0,1000}?)(?P=fence)[ \t]*(?:\n|\Z)")
_MAX_CHARACTERS = 100_000
_MARKDOWN = MarkdownIt("commonmark")


def _inline_text(token: Token) -> str:
    children = token.children or []
    return "".join(
        " " if child.type in ("softbreak", "hardbreak") else child.content
        for child in children
        if child.type in ("text", "code_inline", "softbreak", "hardbreak")
    )


def _without_comments(
    lines: Sequence[str], row: int, code: Collection[int], skipped: Counter[str]
) -> tuple[str, list[str]]:
    """The text of `lines`, of which the first is in `row`, without HTML comments, and the lines with these blank.

    In the rows of `code` what looks like a comment is none.
    """
    text = "\n".join(lines)
    kept: list[str] = []
    blanked: list[str] = []
    at = done = 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        row += text.count("\n", at, start)
        if row in code:
            at = start + 4
            continue
        comment = text[start : end + 3]
        kept.append(text[done:start])
        blanked += [text[done:start], "\n" * comment.count("\n")]
        row += comment.count("\n")
        at = done = end + 3
        skipped["text: HTML comment"] += 1
    return "".join([*kept, text[done:]]), "".join([*blanked, text[done:]]).split("\n")


def _front_matter_length(text: str) -> int:
    """How many characters at the start of a page are front matter: 0 where there is none.

    Front matter is a YAML mapping between lines of `---`, or TOML between lines of `+++`; anything else between two
    rules is the page's own text.
    """
    found = _FENCED.match(text)
    if found is None or found.end() > _MAX_CHARACTERS:
        return 0
    try:
        if found["fence"] == "+++":
            settings = tomllib.loads(found["inside"])
        else:
            settings = yaml.load(found["inside"], Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return 0
    return found.end() if isinstance(settings, dict) and settings else 0


def markdown_sections(text: str, skipped: Counter[str]) -> list[TextSection]:
    """Split Markdown at its headings; front matter and HTML comments are left out, code blocks kept."""
    front = _front_matter_length(text)
    if front:
        skipped["text: front matter"] += 1
    above = text.count("\n", 0, front)
    text = text[front:]
    lines = text.split("\n")
    outline = Outline(line=above + 1)
    tokens = _MARKDOWN.parse(text)
    blocks = [token.map for token in tokens if token.type in ("fence", "code_block") and token.map is not None]
    code = {row for first, end in blocks for row in range(first, end)}
    head = row = 0  # where the open section begins, and what stands below its heading

    def read(end: int) -> None:
        outline.text, blanked = _without_comments(lines[row:end], row, code, skipped)
        outline.lines = (*lines[head:row], *blanked)

    for index, token in enumerate(tokens):
        # A heading inside a quotation or list (level > 0) is not the page's.
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        read(token.map[0])
        outline.heading(int(token.tag[1:]), _inline_text(tokens[index + 1]), above + token.map[0] + 1)
        head, row = token.map
    read(len(lines))
    outline.close(above + len(lines))
    return outline.sections


_MAX_TITLE = 1_000
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1*[ \t]*")
_ROLE = re.compile(r":[\w:+.-]+:`([^`]*)`")
_TARGET = re.compile(r"`([^`<]*?)(?:\s*<[^`>]*>)?`_{0,2}")
_SILENT_DIRECTIVES = (
    "toctree|contents|index|highlight|currentmodule|module|sectionauthor|moduleauthor|include|literalinclude|raw|"
    "meta|image|figure|rubric|default-role|role|sectnum|title|testsetup|testcleanup"
)
# Explicit markup that says nothing to a reader: labels, comments, substitutions, directives without text.
_SILENT = re.compile(
    rf"[ \t]*\.\.(?:[ ]+(?:_|\|)|[ ]+(?:[\w:-]+:)?(?:{_SILENT_DIRECTIVES})::|[ ]+(?![\w:+.-]+::|\[)|[ \t]*$)"
)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _is_adornment(line: str, title: str) -> bool:
    line = line.rstrip()
    if len(title) > _MAX_TITLE:
        return False
    return bool(_ADORNMENT.fullmatch(line)) and (len(line) >= 4 or len(line) >= _width(title.strip()) > 0)


def _rst_title(text: str) -> str:
    text = _TARGET.sub(r"\1", _ROLE.sub(r"`\1`", text))
    return text.replace("**", "").replace("`", "").replace("\\", "")


def _rst_speaks(lines: Sequence[str], skipped: Counter[str]) -> list[bool]:
    """Of each line whether it says something to a reader."""
    speaks: list[bool] = []
    silent: int | None = None
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if silent is not None and (not line.strip() or depth > silent):
            speaks.append(False)
            continue
        silent = depth if _SILENT.match(line) else None
        speaks.append(silent is None)
        if silent is not None:
            skipped["text: directive, label or comment"] += 1
    return speaks


def rst_sections(text: str, skipped: Counter[str]) -> list[TextSection]:
    """Split reStructuredText at its underlined titles; labels, comments and directives without text go.

    Titles are found by their lines. docutils is not used: it runs the directives it meets (`include`, `raw`),
    and does not know Sphinx's.
    """
    given = text.split("\n")
    lines = [line.expandtabs(8) for line in given]
    outline = Outline()
    styles: list[tuple[str, bool]] = []  # in the order of their first use, which is their level
    head = begin = row = 0  # where the open section begins, what stands below its title, and where this is

    def read() -> None:
        speaks = _rst_speaks(lines[begin:row], skipped)
        said = "\n".join(compress(lines[begin:row], speaks))
        outline.text = re.sub(r"\n{3,}", "\n\n", said).strip()
        shown = (line if spoken else "" for line, spoken in zip(given[begin:row], speaks, strict=True))
        outline.lines = (*given[head:begin], *shown)

    while row < len(lines):
        line = lines[row]
        following = lines[row + 1] if row + 1 < len(lines) else ""
        third = lines[row + 2] if row + 2 < len(lines) else ""
        starts = row == 0 or not lines[row - 1].strip() or lines[row - 1].startswith("..")
        over = starts and following.strip() and _is_adornment(line, following) and third.rstrip() == line.rstrip()
        under = (
            starts
            and line.strip()
            and not line[0].isspace()
            and not _ADORNMENT.fullmatch(line.rstrip())
            and _is_adornment(following, line)
        )
        if not (over or under):
            row += 1
            continue
        style = (following[0] if under else line[0], bool(over))
        if style not in styles:
            styles.append(style)
        read()
        outline.heading(styles.index(style), _rst_title(following if over else line), row + 1)
        head, row = row, row + (3 if over else 2)
        begin = row
    read()
    outline.close(len(lines))
    return outline.sections


SPLITTERS: dict[str, Callable[[str, Counter[str]], list[TextSection]]] = {
    **dict.fromkeys((".md", ".markdown"), markdown_sections),
    ".rst": rst_sections,
    **dict.fromkeys((".html", ".htm", ".xhtml"), html_sections),
}
"""File name suffix -> the function that splits such a file into sections, and counts what it leaves out."""


def page_sections(text: str, suffix: str, skipped: Counter[str]) -> list[TextSection] | None:
    """The sections of a page named `*suffix`; None where it does not parse.

    A page that holds none, such as one that a script fills in, is counted.
    """
    try:
        sections = SPLITTERS[suffix](text, skipped)
    except (ParserRejectedMarkup, RecursionError):
        return None
    if not sections and text.strip():
        skipped["file: page without text"] += 1
    return sections
