"""`search_files`: a question in, the best texts out of embeddings files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udever.errors import ContractError, DataError
from udever.search.embeddings_file import (
    Header,
    is_embeddings_file,
    read_embeddings,
    read_header,
    read_texts,
    shard_files,
)
from udever.search.exact import top_k_blocks
from udever.search.locate import NAME, is_index

if TYPE_CHECKING:
    from udever.embedder import Embedder


@dataclass(frozen=True, slots=True)
class Hit:
    """One text found: `score` says how well it fits, `id` is its name, `source` where it comes from.

    Of a hit in an index the source is a file's path and the id `path:first-last`; it has its lines, kind, name,
    parent and language too (see `source.chunks.Chunk`).
    """

    score: float
    id: str
    text: str
    source: str | None = None
    first_line: int | None = None
    last_line: int | None = None
    kind: str | None = None
    name: str | None = None
    parent: str | None = None
    language: str | None = None


def embeddings_at(place: str) -> bool:
    """Whether `place` is an embeddings file or a folder of them; where there is an index too, it is the index."""
    path = Path(place)
    if is_index(path) or is_index(path / NAME):
        return False
    return path.is_file() or (path.is_dir() and bool(embeddings_files(path)))


def embeddings_files(path: Path) -> list[Path]:
    """The embeddings files at `path`; empty for a folder that has none.

    Once one Parquet file of a folder is an embeddings file, all must be: a file passed over in silence
    would be texts that are never found.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give an embeddings file (Parquet) or a folder")
    shards = shard_files(path)
    if shards is not None:
        return shards
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


def search_files(
    embedder: "Embedder", path: str | Path, query: str, top_k: int = 10, *, instruction: str | None = None
) -> list[Hit]:
    """The `top_k` texts at `path` nearest to `query`, best first; fewer where there are fewer.

    `path` is an embeddings file or a folder of them. Every vector is compared. Raises ContractError when the
    files come from different models or from another model than `embedder`: their vectors cannot be compared.
    """
    if top_k < 1:
        raise DataError(f"top_k is {top_k}; ask for at least one hit")
    files = embeddings_files(Path(path))
    if not files:
        raise DataError(f"{path} holds no embeddings files; make one with udever embed")
    return _search_files(embedder, files, query, top_k, instruction)
