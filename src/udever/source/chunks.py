"""One file's text, cut into chunks that fit a model: functions, classes, sections, and what lies between.

No chunk is longer than MAX_LINES lines or MAX_CHARACTERS characters, so that little is ever truncated.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath

from udever.source.definitions import Definition, definitions
from udever.source.languages import known, mteb_language
from udever.source.notebooks import NOTEBOOK, parse_notebook
from udever.source.pages import SPLITTERS, markdown_sections, page_sections
from udever.source.python_code import LANGUAGE
from udever.source.sections import TextSection
from udever.source.tree_code import GRAMMARS

MAX_LINES = 60
MAX_CHARACTERS = 2000
KINDS = ("function", "class", "code", "section", "text")
"""What a chunk can be: a function; of a class what is not in its methods; code between; a section; other text."""

PYTHON_SUFFIXES = (".py", ".pyw", ".pyi")
_HTML = (".html", ".htm", ".xhtml")
_UNCUT_LANGUAGES = {
    **dict.fromkeys((".sh", ".bash", ".zsh"), "shell-Code"),
    ".sql": "sql-Code",
    ".cs": "c#-Code",
    ".swift": "swift-Code",
    ".scala": "scala-Code",
    ".kt": "kotlin-Code",
    ".lua": "lua-Code",
    ".r": "r-Code",
    ".jl": "julia-Code",
    ".hs": "haskell-Code",
    ".pl": "perl-Code",
    ".css": "css-Code",
}
"""Languages we know by name only: such files are cut at blank lines."""

LANGUAGES = {
    **dict.fromkeys(PYTHON_SUFFIXES, LANGUAGE),
    **{suffix: grammar.language for suffix, grammar in GRAMMARS.items()},
    **_UNCUT_LANGUAGES,
}
"""File name suffix -> programming language as mteb writes it."""

_TRANSLATED = frozenset({"docs", "doc", "i18n", "locale", "locales", "lang", "content", "translations"})
_SAYS_SOMETHING = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines `first_line` to `last_line` (from 1, both included) of a file.

    `kind` is one of KINDS; `name` the function, class or heading; `parent` the class or the headings above it,
    joined by `.` or ` > `; `language` as mteb writes it. All of these but the kind may be unknown: "" or None.
    """

    first_line: int
    last_line: int
    text: str
    kind: str
    name: str = ""
    parent: str = ""
    language: str | None = None

    @property
    def passage(self) -> str:
        """What is embedded: the text below the name of what it belongs to, where there is one."""
        return f"{self.parent}\n{self.text}" if self.parent else self.text


def prose_language(path: str) -> str | None:
    """The language that a document's path names: `README.de.md`, `docs/fr/install.md`; None where it names none."""
    parts = PurePosixPath(path).parts
    codes = parts[-1].split(".")[1:-1][-1:]
    codes += [inner for outer, inner in pairwise(parts[:-1]) if outer in _TRANSLATED]
    return next((mteb_language(code) for code in codes if known(code)), None)


def is_code(path: str) -> bool:
    """Whether the file is source code by its name."""
    return PurePosixPath(path).suffix.lower() in LANGUAGES


def keeps_lines(path: str) -> bool:
    """Whether a chunk's text is lines of the file itself: not of pages without their tags, nor of notebooks' cells."""
    return PurePosixPath(path).suffix.lower() not in (*_HTML, NOTEBOOK)


def cut_file(text: str, path: str, language: str | None = None, skipped: Counter[str] | None = None) -> list[Chunk]:
    """The chunks of one file's `text`, in order; its `path` decides how it is cut.

    `text` has "\\n" at its line ends. `language` is that of prose whose path does not name one. What is left out
    of a page (front matter, navigation) is counted in `skipped`.
    """
    skipped = Counter() if skipped is None else skipped
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in LANGUAGES:
        chunks, language = _cut_code(text, suffix), LANGUAGES[suffix]
    elif suffix == NOTEBOOK:
        chunks, language = _cut_notebook(text, language, skipped), None
    elif suffix in SPLITTERS:
        chunks, language = _cut_page(text, suffix, skipped), prose_language(path) or language
    else:
        chunks, language = _pieces(text.split("\n"), 1, Chunk(0, 0, "", "text")), prose_language(path) or language
    return [chunk if suffix == NOTEBOOK else replace(chunk, language=language) for chunk in chunks]


def _cut_code(text: str, suffix: str) -> Iterator[Chunk]:
    lines = text.split("\n")
    for first, last, like in _spans(definitions(text, suffix), 1, len(lines), Chunk(0, 0, "", "code")):
        for chunk in _pieces(lines[first - 1 : last], first, like):
            if _SAYS_SOMETHING.search(chunk.text) and chunk.text.strip() != "end":
                yield chunk


def _spans(found: Sequence[Definition], first: int, last: int, like: Chunk) -> Iterator[tuple[int, int, Chunk]]:
    """First line, last line and kind of each piece of `first` to `last`, which belongs to `like`."""
    after = first
    for definition in sorted(found, key=lambda definition: (definition.first_line, -definition.last_line)):
        if definition.first_line < after or definition.last_line > last:  # it shares a line with another
            continue
        yield after, definition.first_line - 1, like
        above = f"{like.parent}.{like.name}".strip(".") if like.kind == "class" else ""
        inner = Chunk(0, 0, "", definition.kind, definition.name, above)
        yield from _spans(definition.children, definition.first_line, definition.last_line, inner)
        after = definition.last_line + 1
    yield after, last, like


def _cut_page(text: str, suffix: str, skipped: Counter[str]) -> Iterator[Chunk]:
    sections = page_sections(text, suffix, skipped)
    if sections is None:
        yield from _pieces(text.split("\n"), 1, Chunk(0, 0, "", "text"))
        return
    for place, section in enumerate(sections):
        following = sections[place + 1].path if place + 1 < len(sections) else ()
        is_above = len(following) > len(section.path) and following[: len(section.path)] == section.path
        if not section.text and is_above:
            continue  # a heading over other headings alone, whose parents name it
        yield from _cut_section(section, suffix)


def _cut_notebook(text: str, language: str | None, skipped: Counter[str]) -> Iterator[Chunk]:
    """Cells below the heading above them: each piece names the cell's lines, as those of HTML its section's."""
    notebook = parse_notebook(text, skipped)
    if notebook is None:
        skipped["text: notebook that does not parse"] += 1
        return
    code = f"{notebook.language}-Code" if notebook.language else None
    above = ""
    for cell in notebook.cells:
        if cell.is_code:
            pieces = [*_pieces(cell.source.split("\n"), 1, Chunk(0, 0, "", "code", parent=above, language=code))]
        else:
            pieces = []
            for section in markdown_sections(cell.source, skipped):
                above = section.title_path or above
                like = Chunk(0, 0, "", "section", above) if section.path else Chunk(0, 0, "", "text", parent=above)
                like = replace(like, language=language)
                pieces += _pieces(section.lines, 1, like)
        for output in cell.outputs:
            pieces += _pieces(output.split("\n"), 1, Chunk(0, 0, "", "text", parent=above))
        for piece in pieces:
            yield replace(piece, first_line=cell.first_line, last_line=cell.last_line)


def _cut_section(section: TextSection, suffix: str) -> Iterator[Chunk]:
    name, parent = (section.path or ("",))[-1], " > ".join(title for title in section.path[:-1] if title)
    like = Chunk(0, 0, "", "section" if section.path else "text", name, parent)
    if suffix not in _HTML:
        yield from _pieces(section.lines, section.first_line, like)
        return
    # Of HTML the text without its tags is kept, which has lines of its own: each piece names the section's.
    for chunk in _pieces(f"{name}\n\n{section.text}".strip().split("\n"), 1, like):
        yield replace(chunk, first_line=section.first_line, last_line=section.last_line)


def _pieces(lines: Sequence[str], first_line: int, like: Chunk) -> Iterator[Chunk]:
    """Pieces of `lines` within the limits, best cut at blank lines; `first_line` is the number of the first.

    A single line above the limit is cut into pieces of the same line number. Blank pieces are left out.
    """
    start = 0
    while start < len(lines):
        end, size, blank = start, 0, None
        while end < len(lines) and end - start < MAX_LINES:
            size += len(lines[end]) + 1
            if size > MAX_CHARACTERS + 1:
                break
            if not lines[end].strip():
                blank = end
            end += 1
        if end == start:
            line, number = lines[start], first_line + start
            for offset in range(0, len(line), MAX_CHARACTERS):
                piece = line[offset : offset + MAX_CHARACTERS]
                if piece.strip():
                    yield replace(like, first_line=number, last_line=number, text=piece)
            start += 1
            continue
        stop = end if end == len(lines) or blank is None else blank + 1
        block = lines[start:stop]
        lead = next((number for number, line in enumerate(block) if line.strip()), None)
        if lead is not None:
            text = "\n".join(block[lead:]).rstrip()
            first = first_line + start + lead
            yield replace(like, first_line=first, last_line=first + text.count("\n"), text=text)
        start = stop
