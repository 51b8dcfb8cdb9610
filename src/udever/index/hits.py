"""`search`: a question in, the best texts out, from embeddings files or straight from a folder of files."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udever.errors import ContractError, DataError
from udever.index.files import Chunk, read_chunks
from udever.index.search import top_k_blocks
from udever.index.table import Header, is_embeddings_file, read_embeddings, read_header, read_texts
from udever.progress import progress_bar

if TYPE_CHECKING:
    from udever.embedder import Embedder

_WINDOW = 512


@dataclass(frozen=True, slots=True)
class Hit:
    """One text found: `score` is the cosine, `id` its name, `source` where it comes from."""

    score: float
    id: str
    text: str
    source: str | None = None


def _embeddings_files(path: Path) -> list[Path]:
    """The embeddings files at `path`; empty for a folder that has none.

    Once one Parquet file of a folder is an embeddings file, all must be: a file passed over in silence
    would be texts that are never found.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give an embeddings file (Parquet) or a folder")
    files = sorted(file for file in path.glob("*.parquet") if not file.name.startswith("."))
    return files if any(is_embeddings_file(file) for file in files) else []


def _describe(header: Header) -> str:
    return f"fingerprint {header.fingerprint} (dimensions {header.dimensions}, role {header.role})"


def _agreed_header(embedder: "Embedder", files: list[Path]) -> Header:
    header = read_header(files[0])
    for file in files[1:]:
        other = read_header(file)
        if other != header:
            raise ContractError(
                f"{files[0]} and {file} do not belong together: {_describe(header)} and {_describe(other)}; "
                "embed the texts of both again with one model (udever embed)"
            )
    if header.fingerprint != embedder.fingerprint:
        raise ContractError(
            f"{files[0]} was embedded by the model with fingerprint {header.fingerprint}, the model given "
            f"has {embedder.fingerprint}; search with the first, or embed the texts again with this one "
            "(udever embed)"
        )
    return header


def _search_files(embedder: "Embedder", files: list[Path], query: str, k: int, instruction: str | None) -> list[Hit]:
    header = _agreed_header(embedder, files)
    # Only documents carry the document prompt: against anything else the query prompt is on both sides.
    encode = embedder.encode_query if header.role == "document" else embedder.encode
    vector = encode([query], instruction=instruction, dimensions=header.dimensions)
    starts = [0]

    def blocks() -> Iterator[NDArray[np.float32]]:
        for file in files:
            starts.append(starts[-1])
            for block in read_embeddings(file):
                starts[-1] += len(block)
                yield block

    scores, rows = top_k_blocks(vector, blocks(), k)
    places = np.searchsorted(starts, rows[0], side="right") - 1
    # An empty file shares its start with the next one; searchsorted already points behind it.
    offsets = rows[0] - np.asarray(starts)[places]
    texts = {int(place): read_texts(files[place], offsets[places == place].tolist()) for place in np.unique(places)}
    return [
        Hit(float(score), *texts[int(place)][int(offset)])
        for score, place, offset in zip(scores[0], places, offsets, strict=True)
    ]


def _search_folder(
    embedder: "Embedder", folder: Path, query: str, k: int, instruction: str | None, show_progress: bool
) -> list[Hit]:
    waiting = read_chunks(folder)
    chunks: list[Chunk] = []
    vector = embedder.encode_query([query], instruction=instruction)
    with progress_bar("embedding the folder", None, enabled=show_progress) as advance:

        def blocks() -> Iterator[NDArray[np.float32]]:
            while window := list(islice(waiting, _WINDOW)):
                chunks.extend(window)
                yield embedder.encode_document([chunk.text for chunk in window])
                advance(len(window))

        scores, rows = top_k_blocks(vector, blocks(), k)
    if not chunks:
        raise DataError(f"{folder} holds neither embeddings files nor text files; give another folder")
    found = [chunks[row] for row in rows[0]]
    return [Hit(float(score), chunk.id, chunk.text, chunk.path) for score, chunk in zip(scores[0], found, strict=True)]


def search(
    embedder: "Embedder",
    path: str | Path,
    query: str,
    k: int = 10,
    *,
    instruction: str | None = None,
    show_progress: bool = False,
) -> list[Hit]:
    """The `k` texts at `path` nearest to `query`, best first; fewer where there are fewer.

    `path` is an embeddings file, a folder of them, or a folder of source and documentation files, whose
    chunks are then embedded on the fly and forgotten. Raises ContractError when the files come from
    different models or from another model than `embedder`: their vectors cannot be compared.
    """
    if k < 1:
        raise DataError(f"k is {k}; ask for at least one hit")
    path = Path(path)
    files = _embeddings_files(path)
    if files:
        return _search_files(embedder, files, query, k, instruction)
    return _search_folder(embedder, path, query, k, instruction, show_progress)
