"""A folder of source and documentation files, cut into chunks that fit a model.

Python files are cut at functions and methods; everything else, and what lies between functions, into
blocks at blank lines. No chunk is longer than 60 lines or 2000 characters, so little is ever truncated.
"""

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pathspec

from udever.errors import DataError

MAX_LINES = 60
MAX_CHARACTERS = 2000
MAX_FILE_BYTES = 2_000_000
"""Files above this are data, not something a person wrote to be read."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines `first_line` to `last_line` (from 1, both included) of the file `path`, seen from the folder."""

    path: str
    first_line: int
    last_line: int
    text: str

    @property
    def id(self) -> str:
        """`path:first-last`, as editors take it."""
        return f"{self.path}:{self.first_line}-{self.last_line}"


def _ignored(folder: Path) -> pathspec.GitIgnoreSpec:
    gitignore = folder / ".gitignore"
    if not gitignore.is_file():
        return pathspec.GitIgnoreSpec.from_lines([])
    return pathspec.GitIgnoreSpec.from_lines(gitignore.read_text("utf-8", errors="replace").splitlines())


def text_files(folder: str | Path) -> Iterator[Path]:
    """Paths of the files under `folder` in sorted order, relative to it.

    Left out: hidden files and folders, what the `.gitignore` of `folder` itself names, symbolic links.
    """
    folder = Path(folder)
    ignored = _ignored(folder)
    for here, folders, files in os.walk(folder):
        relative = Path(here).relative_to(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not ignored.match_file(f"{(relative / name).as_posix()}/")
        )
        for name in sorted(files):
            path = relative / name
            if name.startswith(".") or ignored.match_file(path.as_posix()) or (folder / path).is_symlink():
                continue
            yield path


def _read_text(path: Path) -> str | None:
    """The file's text, or None for a file that is binary, not UTF-8, or too large."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return None
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    if b"\0" in content[:8192]:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _cut(lines: list[str], first: int, last: int) -> Iterator[tuple[int, int, str]]:
    """Blocks of lines `first` to `last` (from 1, both included) within the limits, best cut at blank lines.

    A single line above the limit is cut into pieces of the same line number. Blank blocks are left out.
    """
    start = first
    while start <= last:
        end, size, blank = start, 0, None
        while end <= last and end - start < MAX_LINES:
            size += len(lines[end - 1]) + 1
            if size > MAX_CHARACTERS + 1:
                break
            if not lines[end - 1].strip():
                blank = end
            end += 1
        if end == start:
            line = lines[start - 1]
            for offset in range(0, len(line), MAX_CHARACTERS):
                yield start, start, line[offset : offset + MAX_CHARACTERS]
            start += 1
            continue
        stop = end - 1 if end > last or blank is None else blank
        block = lines[start - 1 : stop]
        if any(line.strip() for line in block):
            lead = next(number for number, line in enumerate(block) if line.strip())
            text = "\n".join(block[lead:]).rstrip()
            yield start + lead, start + lead + text.count("\n"), text
        start = stop + 1


def _functions(source: str) -> list[tuple[int, int]]:
    """First and last line of every function and method that is not inside another function."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the files of others may hold doubtful escapes: not our concern
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    spans: list[tuple[int, int]] = []
    open_nodes: list[ast.AST] = [tree]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            spans.append((first, node.end_lineno or node.lineno))
        elif not isinstance(node, ast.expr):
            open_nodes.extend(ast.iter_child_nodes(node))
    return sorted(spans)


def cut_text(text: str, path: str) -> list[Chunk]:
    """The chunks of one file's `text`, in order; `path` decides whether it is cut as Python."""
    # ast and editors count the same lines only where form feeds and the like do not end one.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    spans: list[tuple[int, int]] = []
    after = 1
    for first, last in _functions("\n".join(lines)) if path.endswith((".py", ".pyi")) else []:
        if first < after:  # two functions on one line
            continue
        spans += [(after, first - 1), (first, last)]
        after = last + 1
    spans.append((after, len(lines)))
    return [Chunk(path, *block) for span in spans for block in _cut(lines, *span)]


def read_chunks(folder: str | Path) -> Iterator[Chunk]:
    """Chunks of all text files under `folder`, file by file in sorted order.

    Files that are binary, not UTF-8 or larger than 2 MB are passed over, as are those `text_files` leaves
    out. Raises DataError for a folder that is none and for a file that cannot be opened.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a folder of text files")
    for path in text_files(folder):
        text = _read_text(folder / path)
        if text is not None:
            yield from cut_text(text, path.as_posix())
