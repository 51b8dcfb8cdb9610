"""HTML pages, split at their headings; what stands around the text of a page is told from it by how much it says."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bs4 import BeautifulSoup
from bs4.element import CData, NavigableString, Tag

from udever.source.sections import Outline, TextSection

_UNSEEN_TAGS = (
    "script", "style", "noscript", "template", "svg", "iframe", "head", "math", "object", "canvas",
    "button", "input", "select", "textarea", "option",
)  # fmt: skip
_AROUND = (
    "nav, footer, aside, [role=navigation], [role=search], [role=contentinfo], [role=banner], "
    "[class*=sidebar], [class*=breadcrumb], [class*=navheader], [class*=navfooter], [class*=navigation], "
    "[id*=sidebar], [id*=breadcrumb], [class~=related], [class~=toc], [id=toc]"
)
_LINKED = 0.5
"""What stands beside a page's text is links for more than this share of its characters."""
_MOST = 0.5
_BLOCK_TAGS = frozenset(
    (
        "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset",
        "figcaption", "figure", "footer", "form", "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre",
        "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", "h1", "h2", "h3", "h4",
        "h5", "h6",
    )
)  # fmt: skip
_SAYING = (NavigableString, CData)
_PERMALINKS = frozenset("#¶§🔗")
_HEADING = re.compile(r"h[1-6]")
_BLANK_LINES = re.compile(r"(?<! ) *+\n *+\n\s*+")


def html_sections(text: str, skipped: Counter[str]) -> list[TextSection]:
    """Split HTML at h1 to h6; scripts, controls and what stands around the page's text are left out.

    Around it are navigation, footers, asides and sidebars that are links for the most part or lie outside its main
    parts, where those hold most of the text. What says something and is left out is counted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bs4 warns of XHTML and of texts that look like a file name
        soup = BeautifulSoup(text, "html.parser")
    _drop(soup.find_all(_UNSEEN_TAGS))
    _drop(_permalinks(soup))
    _drop_around(soup, skipped)
    outline = Outline()
    for root in _main_parts(soup, skipped):
        _read(root, outline)
    outline.close(text.count("\n") + 1)
    return [replace(section, text=_BLANK_LINES.sub("\n\n", section.text)) for section in outline.sections]


def _passed(root: Tag) -> Iterator[tuple[Literal["open", "close", "text"], Any]]:
    """Every tag below `root` as it opens and closes, and every string between, in one pass.

    A page may be as deep as it is long, and what bs4 tells of a single tag takes as long as the tag is deep.
    """
    opened = [root]
    for node in root.descendants:
        while opened[-1] is not node.parent:
            yield "close", opened.pop()
        if isinstance(node, Tag):
            opened.append(node)
            yield "open", node
        else:
            yield "text", node
    while len(opened) > 1:
        yield "close", opened.pop()


def _permalinks(soup: Tag) -> list[Tag]:
    """Links that say one sign, which stands for their place."""
    found: list[Tag] = []
    said: list[str] = []
    begun: list[int] = []
    for event, node in _passed(soup):
        if event == "text" and type(node) in _SAYING and node.strip():
            said.append(node.strip())
        elif event == "open" and node.name == "a":
            begun.append(len(said))
        elif event == "close" and node.name == "a":
            first = begun.pop()
            if "".join(said[first : first + 2]) in _PERMALINKS:
                found.append(node)
    return found


def _drop(tags: Sequence[Tag]) -> None:
    for tag in tags:
        if not tag.decomposed:
            tag.decompose()


@dataclass(frozen=True)
class _Extent:
    """Where a tag begins and ends in the order of the page, the characters in it, and those of them in links."""

    first: int
    last: int
    size: int
    linked: int


def _extents(soup: Tag) -> dict[int, _Extent]:
    """The extent of every tag by its id."""
    found: dict[int, _Extent] = {}
    begun: list[tuple[int, int, int]] = []
    size = linked = number = links = 0
    for event, node in _passed(soup):
        if event == "close":
            first, size_before, linked_before = begun.pop()
            links -= node.name == "a"
            found[id(node)] = _Extent(first, number + 1, size - size_before, linked - linked_before)
            continue
        number += 1
        if event == "open":
            begun.append((number, size, linked))
            links += node.name == "a"
        elif type(node) is NavigableString:
            length = len(node.strip())
            size += length
            linked += length if links else 0
    found[id(soup)] = _Extent(0, number + 1, size, linked)
    return found


def _drop_around(soup: Tag, skipped: Counter[str]) -> None:
    """Take out navigation and its like, unless it says something itself or holds most of the page."""
    extents = _extents(soup)
    whole = extents[id(soup)].size
    gone = 0
    for tag in soup.select(_AROUND):
        extent = extents[id(tag)]
        if extent.first < gone or tag.name in ("body", "html", "main", "article"):
            continue
        says = extent.linked <= _LINKED * extent.size and tag.name not in ("nav", "footer")
        if says or extent.size > _MOST * whole:
            continue
        if extent.size:
            skipped["text: navigation, footer or sidebar of a page"] += 1
        gone = extent.last
        tag.decompose()


def _main_parts(soup: BeautifulSoup, skipped: Counter[str]) -> list[Tag]:
    """What holds the page's text: all it marks as main, or all its articles, where that is most of it."""
    extents = _extents(soup)
    whole = extents[id(soup)].size
    for selector in ("main, [role=main]", "article"):
        parts: list[Tag] = []
        for tag in soup.select(selector):
            if not parts or extents[id(tag)].first >= extents[id(parts[-1])].last:
                parts.append(tag)
        size = sum(extents[id(part)].size for part in parts)
        if parts and size >= _MOST * whole:
            if size < whole:
                skipped["text: around the main part of a page"] += 1
            return parts
    return [soup]


def _titles(root: Tag) -> dict[int, str]:
    """What every heading below `root` says, by its id; up to a heading that begins in it, where its end is missing."""
    said: dict[int, list[str]] = {}
    current: Tag | None = None
    for event, node in _passed(root):
        if event == "open" and _HEADING.fullmatch(node.name):
            current = node
            said[id(node)] = []
        elif event == "close" and node is current:
            current = None
        elif event == "text" and current is not None and type(node) in _SAYING:
            said[id(current)].append(node)
    return {heading: "".join(strings) for heading, strings in said.items()}


def _read(root: Tag, outline: Outline) -> None:
    titles = _titles(root)
    blocks = [_block_above(root)]  # of each tag that is open the innermost block, itself or around it
    last: Tag | None = None
    for event, node in _passed(root):
        if event == "close":
            blocks.pop()
        elif event == "open":
            blocks.append(node if node.name in _BLOCK_TAGS else blocks[-1])
            if _HEADING.fullmatch(node.name):
                outline.heading(int(node.name[1]), titles[id(node)], node.sourceline or outline.line)
            elif node.name == "br":
                outline.text += "\n"
        # Comments, doctypes and the like are subclasses; only the plain class is text.
        elif type(node) is NavigableString:
            inside = blocks[-1]
            if inside is not None and _HEADING.fullmatch(inside.name):
                continue
            is_raw = inside is not None and inside.name == "pre"
            words = str(node) if is_raw else re.sub(r"\s+", " ", str(node))
            if inside is not last and words.strip():
                outline.text = outline.text.rstrip() + "\n\n"
                last = inside
            outline.text += words


def _block_above(tag: Tag | None) -> Tag | None:
    while tag is not None and tag.name not in _BLOCK_TAGS:
        tag = tag.parent
    return tag
