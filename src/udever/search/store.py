"""What an index holds, and what a store of it has to do, whichever it is: the manifest, records of files, chunks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from udever.errors import DataError
from udever.search.words_weight import WORDS_WEIGHT
from udever.source.chunks import Chunk

FORMAT = 2
"""Version of the layout in the store; another cannot be read."""

CUT = 3
"""Version of the rules by which files are cut; files cut by other rules are cut again."""


class Tuning(BaseModel):
    """How the nearest vectors are found.

    `kind`: "exact", or a type of index that the store knows; `dimensions`: how many of the first ones of each
    vector the index sees; `effort`: partitions looked at (`ivf_*`) or the length of the candidate list (`hnsw_*`);
    `refine`: candidates for each hit wanted, which are scored again by the whole vectors. The rest is what was
    measured when it was chosen: `num_chunks` there were, `recall` (None: not measured) and where that
    of other queries is above nine times out of ten, `latency_ms` (median) and `size_bytes` of the index.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "exact"
    dimensions: int
    effort: int = 0
    refine: int = 1
    num_chunks: int = 0
    recall: float | None = None
    recall_low: float | None = None
    latency_ms: float | None = None
    size_bytes: int | None = None


class IndexManifest(BaseModel):
    """The one record of an index that describes it.

    `precision` is the type that the model computed in; it is searched with the same.
    `base` is the folder that paths in the index start from, seen from the index's own folder where that lies
    inside it, else absolute; `roots` are the files and folders below it that are covered. `words_weight` is what words
    weigh in a search by both (`searchable.fuse`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = FORMAT
    cut: int = CUT
    model: str
    fingerprint: str
    precision: str
    dimensions: int
    base: str
    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    language: str | None = None
    tuning: Tuning | None = None
    words_weight: float = WORDS_WEIGHT


def parse_manifest(text: str, uri: str) -> IndexManifest:
    """The manifest in `text`; DataError where it is damaged or of another version."""
    try:
        return IndexManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{uri}: the index's manifest cannot be read ({where}: {first['msg']}); "
            "make it again with udever index --rebuild"
        ) from error


def saved_fingerprint(model: str) -> str | None:
    """The fingerprint that a model folder was saved with, without loading it; None where none is written down."""
    try:
        return str(json.loads((Path(model) / "udever.json").read_text("utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def base_of(manifest: IndexManifest, folder: Path | None) -> Path:
    """The folder that the index's paths start from; `folder` is the one that the index lies in, if it lies in one."""
    return (folder.resolve() / manifest.base).resolve() if folder is not None else Path(manifest.base)


EXACT_UP_TO = 20_000
"""An index of no more chunks than this compares all of them unless it was tuned to do otherwise."""

EXACT_FILTERED_UP_TO = 2_000
"""Where no more chunks than this pass a filter, all of them are compared: they lie scattered, so each costs more."""

UNFINISHED = ""
"""The digest of a file whose chunks are being written: whatever is there of it is written again."""


def digest_of(data: bytes) -> str:
    """A name for content: 32 hexadecimal digits."""
    return blake2b(data, digest_size=16).hexdigest()


def file_id(path: str) -> int:
    """A number from 0 to 2^63 for a path: what filters on files compare."""
    return int.from_bytes(blake2b(path.encode(), digest_size=8).digest(), "big") >> 1


CHUNK = tuple(field.name for field in fields(Chunk))
"""The columns that a store keeps of each chunk itself."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as it was when it was indexed.

    `mtime_ns` is -1 where the time says nothing (the file was written as it was read); `digest` names its bytes,
    UNFINISHED until its chunks are all there; `reason` says why it has none ("binary"), else "".
    """

    path: str
    size_bytes: int
    mtime_ns: int
    digest: str
    num_chunks: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """One chunk to be stored: `digest` names its passage, `truncated` says that the model did not see all of it."""

    path: str
    number: int
    chunk: Chunk
    digest: str
    words: str
    truncated: bool

    @property
    def id(self) -> str:
        """32 hexadecimal digits from path and number."""
        return digest_of(f"{self.path}\0{self.number}".encode())


@dataclass(frozen=True, slots=True)
class Where:
    """A filter: each entry is None for no condition, else what is wanted, which may be nothing; `files` by id."""

    languages: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    files: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class FoundChunk:
    """A chunk that a search found; `score` is the cosine or the full-text score, higher is better."""

    id: str
    path: str
    chunk: Chunk
    score: float


class Store(Protocol):
    """Chunks with vectors and words, records of files, and one manifest. Strings are kept as they are given."""

    uri: str

    @property
    def folder(self) -> Path | None:
        """The local folder the store lies in; None where there is none."""
        ...

    def read_manifest(self) -> str | None:
        """The manifest; None where there is no index yet."""
        ...

    def write_manifest(self, text: str) -> None:
        """Replace the manifest."""
        ...

    def create(self, dimensions: int) -> None:
        """Drop everything, the manifest first, and begin with no chunks and no files."""
        ...

    def files(self) -> dict[str, FileRecord]:
        """Every file by its path."""
        ...

    def put_files(self, records: Sequence[FileRecord]) -> None:
        """Add records or replace those of the same path."""
        ...

    def forget_files(self, paths: Sequence[str]) -> None:
        """Remove the records of `paths`, not their chunks."""
        ...

    def replace(self, paths: Sequence[str], rows: Sequence[ChunkRow], embeddings: NDArray[np.float32]) -> None:
        """Make `rows` with `embeddings` [rows, dimensions] all the chunks that there are of `paths`."""
        ...

    def known(self, digests: Sequence[str]) -> Mapping[str, tuple[NDArray[np.float32], bool]]:
        """Embedding and truncated of those passages, by digest, that are stored already."""
        ...

    def nearest(self, embedding: NDArray[np.float32], top_k: int, where: Where, tuning: Tuning) -> list[FoundChunk]:
        """The chunks nearest to `embedding` among those that pass `where`, best first."""
        ...

    def matching(self, words: Sequence[str], top_k: int, where: Where) -> list[FoundChunk]:
        """The chunks with the highest full-text score (BM25) for `words` among those that pass, best first."""
        ...

    def take(self, ids: Sequence[str]) -> list[FoundChunk]:
        """Chunks by their ids, in no order; one that does not exist is absent."""
        ...

    def count(self, where: Where | None = None) -> int:
        """How many chunks pass `where`."""
        ...

    def languages(self) -> dict[str, int]:
        """How many chunks there are of each language."""
        ...

    def embeddings(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and embeddings of all chunks, for tuning."""
        ...

    def candidates(self, dimensions: int, num_dimensions: int) -> list[Tuning]:
        """Kinds of index worth trying on `dimensions` of `num_dimensions`, each with its usual refinement."""
        ...

    def build(self, tuning: Tuning) -> None:
        """Make the vector index that `tuning` describes, in place of any other."""
        ...

    def index_bytes(self, tuning: Tuning) -> int:
        """Size of the vector index that stands; for "exact", of the vectors."""
        ...

    def is_unsettled(self) -> bool:
        """Whether chunks were written that the indexes do not know yet."""
        ...

    def optimise(self) -> None:
        """Take new chunks into the indexes, merge small pieces, drop what old versions alone need."""
        ...
