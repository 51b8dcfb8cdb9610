"""Notebooks: the sources of their cells and what these printed, with the lines where each cell stands in the file."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from udever.source.looks import why_no_words

NOTEBOOK = ".ipynb"
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class NotebookCell:
    """One cell: its `source`, the texts of its outputs, and its lines in the file, from 1."""

    is_code: bool
    source: str
    outputs: tuple[str, ...]
    first_line: int
    last_line: int


@dataclass(frozen=True)
class Notebook:
    """`language`: the name of the programming language in lower case; "" where none is given."""

    cells: tuple[NotebookCell, ...]
    language: str


def parse_notebook(text: str, skipped: Counter[str] | None = None) -> Notebook | None:
    """The notebook in a file's text; None where it is none.

    Counted in `skipped`: outputs that are no text (pictures, widgets) or all numbers or encoded bytes, and pictures
    attached to a cell.
    """
    skipped = Counter() if skipped is None else skipped
    try:
        found = dict(_members(text))
        raw, starts = found["cells"]
        cells = tuple(
            _cell(cell, first, last, skipped) for cell, (first, last) in zip(raw, _rows(text, starts), strict=True)
        )
        metadata = found["metadata"][0] if "metadata" in found else {}
        language = metadata.get("language_info", {}).get("name") or metadata.get("kernelspec", {}).get("language")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    return Notebook(cells, str(language or "").lower())


def _members(text: str) -> Iterator[tuple[str, tuple[Any, list[int]]]]:
    """Name and value of each member of the object in `text`; of an array where each element starts, and the end."""
    at = _expect(text, 0, "{")
    while True:
        name, at = _DECODER.raw_decode(text, _skip(text, at))
        at = _skip(text, _expect(text, at, ":"))
        if text[at] == "[":
            value, starts, at = _array(text, at)
        else:
            (value, at), starts = _DECODER.raw_decode(text, at), []
        yield name, (value, starts)
        at = _skip(text, at)
        if text[at] == "}":
            return
        at = _expect(text, at, ",")


def _array(text: str, at: int) -> tuple[list[Any], list[int], int]:
    values: list[Any] = []
    starts: list[int] = []
    at = _skip(text, at + 1)
    while text[at] != "]":
        starts.append(at)
        value, at = _DECODER.raw_decode(text, at)
        values.append(value)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return values, [*starts, at], at + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None, "it matches nothing, too"
    return found.end()


def _expect(text: str, at: int, char: str) -> int:
    at = _skip(text, at)
    if text[at] != char:
        raise ValueError(f"no {char} at {at}")
    return at + 1


def _joined(value: Any) -> str:
    """A text of a notebook: one string, or its lines."""
    return value if isinstance(value, str) else "".join(map(str, value or ()))


def _rows(text: str, starts: list[int]) -> Iterator[tuple[int, int]]:
    """First and last line of each element that starts at one of `starts`, whose last is the end of all."""
    first, before = 1, 0
    for start, end in pairwise(starts):
        first += text.count("\n", before, start)
        yield first, first + text[start:end].rstrip(" \t\r\n,").count("\n")
        before = start


def _cell(cell: dict[str, Any], first: int, last: int, skipped: Counter[str]) -> NotebookCell:
    if cell.get("attachments"):
        skipped["text: picture or other output without words"] += len(cell["attachments"])
    outputs = tuple(_outputs(cell.get("outputs") or (), skipped))
    return NotebookCell(cell.get("cell_type") == "code", _joined(cell.get("source")), outputs, first, last)


def _outputs(outputs: Any, skipped: Counter[str]) -> Iterator[str]:
    for output in outputs:
        if output.get("output_type") == "error":
            said = f"{output.get('ename', '')}: {output.get('evalue', '')}"
        else:
            said = _joined(output.get("text") or (output.get("data") or {}).get("text/plain"))
        said = _ESCAPES.sub("", said).strip()
        others = [kind for kind in output.get("data") or () if kind != "text/plain"]
        if others:
            skipped["text: picture or other output without words"] += len(others)
        if said and (reason := why_no_words(said)):
            skipped[f"text: output of {reason}"] += 1
        elif said:
            yield said
