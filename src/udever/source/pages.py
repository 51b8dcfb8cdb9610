"""Documents: Markdown, reStructuredText and HTML, split at their headings.

A section's text is its own: what stands under its subsections belongs to those.
"""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from udever.source.html import html_sections
from udever.source.sections import Outline, Section

_FENCED = re.compile(r"\A(?P<fence>---|\+\+\+)[ \t]*\n(?P<inside>(?:.*\n){0,1000}?)(?P=fence)[ \t]*(?:\n|\Z)")
_MAX_CHARACTERS = 100_000


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark")


def _inline_text(token: Token) -> str:
    children = token.children or []
    return "".join(
        " " if child.type in ("softbreak", "hardbreak") else child.content
        for child in children
        if child.type in ("text", "code_inline", "softbreak", "hardbreak")
    )


def _without_comments(text: str, skipped: Counter[str]) -> str:
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept.append(text[at:start])
        at = end + 3
        skipped["text: HTML comment"] += 1
    return "".join([*kept, text[at:]])


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


def markdown_sections(text: str, skipped: Counter[str]) -> list[Section]:
    """Split Markdown at its headings; front matter and HTML comments are left out, code blocks kept."""
    front = _front_matter_length(text)
    if front:
        skipped["text: front matter"] += 1
    above = text.count("\n", 0, front)
    text = text[front:]
    lines = text.split("\n")
    outline, row = Outline(line=above + 1), 0
    tokens = _markdown().parse(text)
    for index, token in enumerate(tokens):
        # A heading inside a quotation or list (level > 0) is not the page's.
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        outline.text = _without_comments("\n".join(lines[row : token.map[0]]), skipped)
        outline.heading(int(token.tag[1:]), _inline_text(tokens[index + 1]), above + token.map[0] + 1)
        row = token.map[1]
    outline.text = _without_comments("\n".join(lines[row:]), skipped)
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


def _rst_body(lines: list[str], skipped: Counter[str]) -> str:
    kept: list[str] = []
    silent: int | None = None
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if silent is not None and (not line.strip() or depth > silent):
            continue
        silent = depth if _SILENT.match(line) else None
        if silent is None:
            kept.append(line)
        else:
            skipped["text: directive, label or comment"] += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def rst_sections(text: str, skipped: Counter[str]) -> list[Section]:
    """Split reStructuredText at its underlined titles; labels, comments and directives without text go.

    Titles are found by their lines. docutils is not used: it runs the directives it meets (`include`, `raw`),
    and does not know Sphinx's.
    """
    lines = [line.expandtabs(8) for line in text.split("\n")]
    outline = Outline()
    styles: list[tuple[str, bool]] = []  # in the order of their first use, which is their level
    body: list[str] = []
    row = 0
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
            body.append(line)
            row += 1
            continue
        style = (following[0] if under else line[0], bool(over))
        if style not in styles:
            styles.append(style)
        outline.text = _rst_body(body, skipped)
        outline.heading(styles.index(style), _rst_title(following if over else line), row + 1)
        body = []
        row += 3 if over else 2
    outline.text = _rst_body(body, skipped)
    outline.close(len(lines))
    return outline.sections


NO_TEXT = "file: page without text"
"""How a page is counted that holds no section, such as one that a script fills in."""

SPLITTERS: dict[str, Callable[[str, Counter[str]], list[Section]]] = {
    **dict.fromkeys((".md", ".markdown"), markdown_sections),
    ".rst": rst_sections,
    **dict.fromkeys((".html", ".htm", ".xhtml"), html_sections),
}
"""File name suffix -> the function that splits such a file into sections, and counts what it leaves out."""
