"""The map as one file: the page's own code with points and texts inside, to be opened without a server."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from udever.errors import DataError
from udever.files import printable
from udever.search.points import MapPoints
from udever.search.searchable import are_own_lines
from udever.server.encoding import packed_map
from udever.storage import atomic_file

PAGE = Path(__file__).with_name("page")
_TEMPLATE = Path(__file__).with_name("map.html")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=function|async|const|let|class)", re.MULTILINE)
_LEFT = re.compile(r"^(import|export)\b", re.MULTILINE)


@dataclass(frozen=True)
class MapPage:
    """What a map file says beside its points: `texts` in their order, `num_rows` there are in all.

    Of each text the first `text_length` characters go into the file. `facts` are lines below the title.
    """

    title: str
    texts: Sequence[str]
    num_rows: int
    facts: Sequence[str] = ()
    text_length: int = 400


def write_map(path: str | Path, points: MapPoints, page: MapPage) -> int:
    """Write the map to `path`, whole or not at all; return how many texts were cut.

    The file loads nothing and may be opened from a disk. Raises DataError for a length below 1, OutputError
    where the file cannot be written.
    """
    if page.text_length < 1:
        raise DataError(f"text_length is {page.text_length}; expected at least 1 character")
    assert len(points.xy) == len(points.ids) == len(page.texts)
    title = printable(page.title)  # it may be the name of a folder, of bytes that are no text
    cut = [row for row, text in enumerate(page.texts) if len(text) > page.text_length]
    data = packed_map(points, page.num_rows) | {
        "title": title,
        "facts": list(page.facts),
        "texts": [text[: page.text_length] for text in page.texts],
        "cut": cut,
        "own_lines": [row for row, text in enumerate(page.texts) if _has_own_lines(points, row, text)],
        "text_length": page.text_length,
    }
    html = render(title, json.dumps(data, ensure_ascii=False, allow_nan=False))
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")
    return len(cut)


def _has_own_lines(points: MapPoints, row: int, text: str) -> bool:
    """As `Hit.has_own_lines`, of a row of a map."""
    lines = points.columns.get("lines")
    if lines is None:
        return False
    first, last = map(int, lines[row].split("-"))
    return are_own_lines(text, points.columns["source"][row], first, last)


def render(title: str, data: str) -> str:
    """The page with `data`, which is JSON, inside: its policy lets the page's own code and style run, nothing else."""
    early, code, style = _read("early.js"), bundle("static.js"), _read("style.css")
    policy = (
        f"default-src 'none'; script-src {_hash(early)} {_hash(code)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    # Inside a script element nothing but "<" could end it or change how the rest is read.
    slots = {
        "policy": escape(policy),
        "title": escape(title),
        "style": style,
        "early": early,
        "data": data.replace("<", "\\u003c"),
        "code": code,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda slot: slots[slot[1]], _TEMPLATE.read_text("utf-8"))


def bundle(entry: str) -> str:
    """A module of the page and all it imports as one, what is imported first; top-level names must differ."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        text = (PAGE / name).read_text("utf-8")
        done[name] = ""
        for imported in _IMPORT.findall(text):
            add(imported)
        del done[name]
        done[name] = _EXPORT.sub("", _IMPORT.sub("", text))
        assert not _LEFT.search(done[name]), f"{name}: only plain imports and exports can be joined"

    add(entry)
    return _sealed("".join(done.values()))


def _read(name: str) -> str:
    return _sealed((PAGE / name).read_text("utf-8"))


def _sealed(text: str) -> str:
    assert not re.search(r"</(script|style)|<!--", text, re.IGNORECASE), "the text would end its own element"
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
