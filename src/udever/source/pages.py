"""Documents: Markdown, reStructuredText and HTML, split at their headings.

A section's text is its own: what stands under its subsections belongs to those.
"""

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from markdown_it import MarkdownIt
from markdown_it.token import Token

from udever.source.front_matter import front_matter_length
from udever.source.text import one_line


@dataclass(frozen=True)
class Section:
    """What stands under one heading. `path` holds the headings from the page's top down; () before the first.

    `first_line` is the heading's own line, `last_line` the one before the next heading, both from 1.
    """

    path: tuple[str, ...]
    text: str
    first_line: int
    last_line: int

    @property
    def title_path(self) -> str:
        """The headings in one line: `Guide > Install > Linux`."""
        return " > ".join(title for title in self.path if title)


@dataclass
class _Outline:
    """Collects sections: a heading closes the section before it, text goes to the open one."""

    sections: list[Section] = field(default_factory=list)
    path: list[tuple[int, str]] = field(default_factory=list)
    text: str = ""
    line: int = 1

    def heading(self, level: int, title: str, line: int) -> None:
        self.close(line - 1)
        while self.path and self.path[-1][0] >= level:
            self.path.pop()
        self.path.append((level, one_line(title)))
        self.line = line

    def close(self, last_line: int) -> None:
        text = self.text.strip()
        if self.path or text:
            path = tuple(title for _, title in self.path)
            self.sections.append(Section(path, text, self.line, max(self.line, last_line)))
        self.text = ""


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


def markdown_sections(text: str, skipped: Counter[str]) -> list[Section]:
    """Split Markdown at its headings; front matter and HTML comments are left out, code blocks kept."""
    front = front_matter_length(text)
    if front:
        skipped["text: front matter"] += 1
    above = text.count("\n", 0, front)
    text = text[front:]
    lines = text.split("\n")
    outline, row = _Outline(line=above + 1), 0
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
    outline = _Outline()
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


_DROPPED_TAGS = (
    "script", "style", "nav", "noscript", "template", "svg", "footer", "aside", "form", "button", "iframe",
    "head", "math",
)  # fmt: skip
_BLOCK_TAGS = frozenset(
    (
        "address", "article", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset",
        "figcaption", "figure", "header", "hr", "html", "li", "main", "ol", "p", "pre", "section",
        "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", "h1", "h2", "h3", "h4", "h5",
        "h6",
    )
)  # fmt: skip
_PERMALINKS = frozenset("#¶§🔗")
_HEADING = re.compile(r"h[1-6]")
_BLANK_LINES = re.compile(r"(?<! ) *+\n *+\n\s*+")


def _block(string_parent: Tag | None) -> Tag | None:
    while string_parent is not None and string_parent.name not in _BLOCK_TAGS:
        string_parent = string_parent.parent
    return string_parent


def html_sections(text: str, skipped: Counter[str]) -> list[Section]:
    """Split HTML at h1 to h6; scripts, styles, navigation, forms, footers and asides are left out.

    Where the page marks its main part, the rest is left out too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bs4 warns of XHTML and of texts that look like a file name
        soup = BeautifulSoup(text, "html.parser")
    dropped = [*soup.find_all(_DROPPED_TAGS), *soup.select("[role=navigation], [role=search]")]
    dropped += [link for link in soup.find_all("a") if link.get_text(strip=True) in _PERMALINKS]
    for tag in dropped:
        if not tag.decomposed:
            tag.decompose()
    root = soup.select_one("main, [role=main]") or soup.select_one("article") or soup
    outline = _Outline()
    block: Tag | None = None
    for node in root.descendants:
        if isinstance(node, Tag):
            if _HEADING.fullmatch(node.name):
                outline.heading(int(node.name[1]), node.get_text(), node.sourceline or outline.line)
            elif node.name == "br":
                outline.text += "\n"
        # Comments, doctypes and the like are subclasses; only the plain class is text.
        elif type(node) is NavigableString:
            inside = _block(node.parent)
            if inside is not None and _HEADING.fullmatch(inside.name):
                continue
            is_raw = inside is not None and inside.name == "pre"
            words = str(node) if is_raw else re.sub(r"\s+", " ", str(node))
            if inside is not block and words.strip():
                outline.text = outline.text.rstrip() + "\n\n"
                block = inside
            outline.text += words
    outline.close(text.count("\n") + 1)
    return [replace(section, text=_BLANK_LINES.sub("\n\n", section.text)) for section in outline.sections]


SPLITTERS: dict[str, Callable[[str, Counter[str]], list[Section]]] = {
    **dict.fromkeys((".md", ".markdown"), markdown_sections),
    ".rst": rst_sections,
    **dict.fromkeys((".html", ".htm", ".xhtml"), html_sections),
}
"""File name suffix -> the function that splits such a file into sections, and counts what it leaves out."""
