"""`embed_file`: a file of texts in, an embeddings file out, in windows of bounded memory."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from udever.corpus.rows import Row, count_rows, read_rows
from udever.errors import DataError, OutputError, RecipeError, TextError
from udever.index.table import ROLES, EmbeddingTable, Header, Role, TableWriter, writing
from udever.progress import Advance, progress_bar

if TYPE_CHECKING:
    from udever.embedder import Embedder

WINDOW = 4096
"""Rows embedded together and written as one row group: enough to sort by length, few enough to hold."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What `embed_file` did. `num_tokens` went through the model; `num_truncated` texts were cut to fit."""

    num_rows: int
    num_tokens: int
    num_truncated: int
    seconds: float


class EncodeOptions(TypedDict, total=False):
    """Choices of `embed_file` that are the embedder's own; an unknown one is a TypeError."""

    role: Role
    dimensions: int | None
    batch_tokens: int | None


@dataclass(frozen=True, slots=True)
class _Encoding:
    """An embedder with every choice made, so that a window of texts is all it still needs."""

    embedder: "Embedder"
    role: Role = "document"
    dimensions: int | None = None
    batch_tokens: int | None = None

    def header(self) -> Header:
        """What the file will say about its rows; raises RecipeError for a choice that does not exist."""
        if self.role not in ROLES:
            raise RecipeError(f"role is {self.role!r}; expected one of {', '.join(ROLES)}")
        full = self.embedder.num_dimensions
        dimensions = full if self.dimensions is None else self.dimensions
        if not 1 <= dimensions <= full:
            raise RecipeError(f"dimensions is {dimensions}; expected 1 to {full}, as many as the model has")
        return Header(self.embedder.fingerprint, dimensions, self.role)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        encode = {
            "query": self.embedder.encode_query,
            "document": self.embedder.encode_document,
            "symmetric": self.embedder.encode,
        }[self.role]
        return encode(texts, dimensions=self.dimensions, batch_tokens=self.batch_tokens)


def _windows(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while window := list(islice(rows, WINDOW)):
        yield window


def _embed_window(encoding: _Encoding, window: list[Row], path: Path) -> EmbeddingTable:
    texts = [row.text for row in window]
    try:
        embeddings = encoding.encode(texts)
    except TextError as error:  # it counts rows from the start of the window
        raise TextError(f"{path}, in the texts from row {window[0].number} on: {error}") from error
    truncation = encoding.embedder.last_truncation
    assert truncation is not None, "encoding sets it"
    return EmbeddingTable(
        ids=[row.id for row in window],
        texts=texts,
        sources=[row.source for row in window],
        embeddings=embeddings,
        num_tokens=np.asarray(truncation.num_tokens, dtype=np.int32),
        truncated=np.asarray(truncation.truncated, dtype=np.bool_),
    )


def _write_all(
    encoding: _Encoding, rows: Iterator[Row], path: Path, writer: TableWriter, advance: Advance
) -> tuple[int, int]:
    num_tokens = num_truncated = 0
    for window in _windows(rows):
        table = _embed_window(encoding, window, path)
        writer.write(table)
        num_tokens += int(table.num_tokens.sum())
        num_truncated += int(table.truncated.sum())
        advance(len(window))
    if not writer.num_rows:
        raise DataError(f"{path} holds no texts; expected at least one")
    return num_tokens, num_truncated


def embed_file(
    embedder: "Embedder",
    input_path: str | Path,
    output_path: str | Path,
    *,
    column: str = "text",
    show_progress: bool = True,
    **options: Unpack[EncodeOptions],
) -> Summary:
    """Embed every text of `input_path` and write them, in order, to the embeddings file `output_path`.

    Input and its errors are those of `rows.read_rows`. `options` are `role` ("document", "query" or
    "symmetric", the query prompt for texts compared with their like), `dimensions` (all by default) and
    `batch_tokens`. The output appears whole or not at all. Raises DataError, TextError, RecipeError (an
    option) or OutputError (a full disk).
    """
    started = time.perf_counter()
    path, output = Path(input_path), Path(output_path)
    if output.exists() and path.exists() and output.samefile(path):
        raise OutputError(f"{output} is the input; give another output")
    encoding = _Encoding(embedder, **options)
    header = encoding.header()
    rows = read_rows(path, column)
    # The first row is read before the output is opened: most mistakes show there.
    rows = chain(list(islice(rows, 1)), rows)
    with (
        progress_bar("embedding", count_rows(path), enabled=show_progress) as advance,
        writing(output, header) as writer,
    ):
        num_tokens, num_truncated = _write_all(encoding, rows, path, writer, advance)
    return Summary(writer.num_rows, num_tokens, num_truncated, time.perf_counter() - started)
