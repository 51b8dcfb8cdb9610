"""The index of a tree of files, to be asked."""

import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from udever.errors import ContractError, DataError, FileRefused, UdeverError
from udever.nearest import path_suggestion
from udever.search.in_memory import Columns, EmbeddingsFiles
from udever.search.locate import (
    check_owner,
    embeddings_at,
    find_index,
    is_uri,
    open_store,
    own_model,
    readable_base,
)
from udever.search.seal import read_seal
from udever.search.searchable import Filters, Hit, Searchable, Vectors, full_language, matching_paths
from udever.search.store import (
    FoundChunk,
    IndexManifest,
    Store,
    Tuning,
    Where,
    base_of,
    digest_of,
    file_id,
    parse_manifest,
)
from udever.source.reading import read
from udever.source.walk import FoundFile
from udever.storage import is_job

if TYPE_CHECKING:
    from udever.embedder import Embedder

MAX_READ_LINES = 400

_FRESH_S = 2.0
_LANGUAGES_S = 10.0
_CHUNK_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Status:
    """What an index holds."""

    uri: str
    base: str
    model: str
    fingerprint: str
    dimensions: int
    num_files: int
    num_chunks: int
    search: str


@dataclass(frozen=True)
class Lines:
    """Lines `first_line` to `last_line` of a file as it is now; `changed` says it is not as it was indexed."""

    path: str
    first_line: int
    last_line: int
    num_lines: int
    text: str
    changed: bool


class Index(Searchable):
    """An index to be asked. What another process writes to it is seen after two seconds at most."""

    def __init__(self, store: Store, base: Path | None = None):
        self.store = store
        self._base = base
        self._read_languages: tuple[float, dict[str, int]] = (-math.inf, {})
        self._manifest = self._read()
        self._read_at = time.monotonic()

    @classmethod
    def open(cls, place: str | Path | None = None, *, base: Path | None = None) -> Self:
        """The index at `place`: a folder, one with an index inside, a URI; None: at or above the current folder.

        `base` is the folder its paths start from, where that is not the one it lies in and files are to be read.
        Raises DataError where there is none, or where one that was found belongs to another user.
        """
        found = find_index(None if place is None else str(place))
        if place is None:
            check_owner(Path(found))
        return cls(open_store(found), base)

    def _read(self) -> IndexManifest:
        text = self.store.read_manifest()
        if text is None:
            raise DataError(f"{self.store.uri} holds no index; make one with: udever index PATH -m MODEL")
        return parse_manifest(text, self.store.uri)

    @property
    def manifest(self) -> IndexManifest:
        """What the index says about itself."""
        if time.monotonic() - self._read_at > _FRESH_S:
            self._manifest, self._read_at = self._read(), time.monotonic()
        return self._manifest

    def own_model(self) -> str:
        """The model it was made with, where that is on this machine. Raises ModelError where it would be fetched."""
        return own_model(self.manifest.model, self.store.uri)

    def check(self, embedder: "Embedder") -> None:
        """Raise ContractError unless the index holds vectors of this very model, in its precision."""
        check_embedder(self.store.uri, self.manifest, embedder.name, embedder)

    @property
    def name(self) -> str:
        """Its place."""
        return self.store.uri

    @property
    def dimensions(self) -> int:
        """The width of its vectors."""
        return self.manifest.dimensions

    @property
    def words_weight(self) -> float:
        """As its model said when it was made."""
        return self.manifest.words_weight

    def count(self) -> int:
        """How many chunks there are."""
        return self.store.count()

    def texts(self, ids: Sequence[str]) -> Mapping[str, Hit]:
        """Chunks by their ids."""
        found = self.store.take([name for name in ids if _CHUNK_ID.fullmatch(name)])
        return {chunk.id: replace(_hit(chunk), id=chunk.id) for chunk in found}

    def vectors(self, limit: int, ids: Collection[str] | None = None) -> Vectors:
        """Rows of which `source` and `lines` together are the id of a hit."""
        names, embeddings = self.store.embeddings()
        order = sorted(range(len(names)), key=lambda row: names[row])  # ids are hashes: any of them are a sample
        wanted = None if ids is None else set(ids)
        rows = order[:limit] if wanted is None else [row for row in order if names[row] in wanted]
        found = {chunk.id: chunk for chunk in self.store.take([names[row] for row in rows])}
        chunks = [found[names[row]] for row in rows]
        return Vectors(
            name=Path(self.manifest.model).name,
            fingerprint=self.manifest.fingerprint,
            num_rows=len(names),
            ids=[chunk.id for chunk in chunks],
            texts=[chunk.chunk.text for chunk in chunks],
            embeddings=embeddings[rows],
            columns={
                "language": [chunk.chunk.language or "" for chunk in chunks],
                "kind": [chunk.chunk.kind for chunk in chunks],
                "source": [chunk.path for chunk in chunks],
                "lines": [f"{chunk.chunk.first_line}-{chunk.chunk.last_line}" for chunk in chunks],
            },
        )

    def _languages(self) -> Mapping[str, int]:
        read_at, languages = self._read_languages
        if time.monotonic() - read_at > _LANGUAGES_S:
            languages = self.store.languages()
            self._read_languages = (time.monotonic(), languages)
        return languages

    def _paths(self) -> Collection[str]:
        return self.store.files().keys()

    def _within(self, filters: Filters) -> Where:
        paths = matching_paths(filters.paths, self._paths()) if filters.paths else ()
        return Where(
            languages=tuple(map(full_language, filters.languages)) or None,
            kinds=tuple(filters.kinds) or None,
            files=tuple(map(file_id, paths)) if filters.paths else None,
        )

    def _num_within(self, within: Where) -> int:
        return self.store.count(within)

    def _nearest(self, embedding: NDArray[np.float32], top_k: int, within: Where) -> list[Hit]:
        tuning = self.manifest.tuning or Tuning(dimensions=self.dimensions)
        return list(map(_hit, self.store.nearest(embedding, top_k, within, tuning)))

    def _matching(self, said: Sequence[str], top_k: int, within: Where) -> list[Hit]:
        return list(map(_hit, self.store.matching(said, top_k, within)))

    def status(self) -> Status:
        """What the index holds and how it is searched."""
        manifest, tuning = self.manifest, self.manifest.tuning
        return Status(
            uri=self.store.uri,
            base=str(base_of(manifest, self.store.folder)),
            model=manifest.model,
            fingerprint=manifest.fingerprint,
            dimensions=manifest.dimensions,
            num_files=len(self.store.files()),
            num_chunks=self.store.count(),
            search=describe(tuning) if tuning is not None else "exact",
        )

    def read(self, path: str, first_line: int = 1, last_line: int | None = None) -> Lines:
        """Lines of an indexed file, both ends included, at most 400; reads no file that is not in the index.

        Raises DataError for such a path, for one that cannot be read any more and for lines that do not exist.
        """
        record = self.store.files().get(path)
        if record is None:
            raise DataError(f"{path} is not in the index; give a path as a hit names it")
        base = readable_base(self.manifest, self.store, self._base)
        file = (base / path).resolve()
        if not file.is_relative_to(base):  # it has become a symbolic link that leads elsewhere
            raise DataError(f"{path} leads out of {base}; run udever index again")
        try:
            data = FoundFile(file, path, base).read()
        except FileRefused as refused:
            raise DataError(f"{path} {refused.reason}; run udever index again") from refused
        found = read(data, path, is_asked=True)
        if found.text is None:
            raise DataError(f"{path} is {found.reason}; only text can be read")
        text = found.text
        lines = text.removesuffix("\n").split("\n")
        last_line = min(last_line or first_line + MAX_READ_LINES - 1, first_line + MAX_READ_LINES - 1, len(lines))
        if not 1 <= first_line <= last_line:
            raise DataError(f"{path} has no lines {first_line} to {last_line}; it has {len(lines)}, counted from 1")
        shown = "\n".join(lines[first_line - 1 : last_line])
        return Lines(path, first_line, last_line, len(lines), shown, digest_of(data) != record.digest)


def other_model(uri: str, manifest: IndexManifest, model: str, fingerprint: str) -> ContractError:
    """What to say where vectors of two models would meet."""
    return ContractError(
        f"{uri} holds vectors of the model {manifest.model} (fingerprint {manifest.fingerprint}), but {model} has "
        f"the fingerprint {fingerprint}; use the model it was made with, or embed all of it again with "
        "udever index --rebuild -m MODEL"
    )


def check_embedder(uri: str, manifest: IndexManifest, name: str, embedder: "Embedder") -> None:
    """Raise ContractError unless the index holds vectors of this very model, computed in its precision."""
    precisions = {embedder.precision, manifest.precision}
    eight_bits = len(precisions) == 2 and "int8" in precisions  # another fingerprint for the same model too
    if embedder.fingerprint != manifest.fingerprint and not eight_bits:
        raise other_model(uri, manifest, name, embedder.fingerprint)
    if len(precisions) == 2:
        raise ContractError(
            f"{uri} holds vectors computed in {manifest.precision}, {name} is loaded in {embedder.precision}; load it "
            f"with --dtype {manifest.precision}, or embed all of it again with udever index --rebuild"
        )


@dataclass(frozen=True)
class Sealed:
    """What the seal of an index in a folder says, before the store is opened."""

    manifest: IndexManifest
    uri: str

    def own_model(self) -> str:
        """As `Index.own_model`."""
        return own_model(self.manifest.model, self.uri)


def sealed(place: str | None) -> Sealed | None:
    """The seal of the index that `Index.open` would open; None where there is none that can be read."""
    try:
        found = find_index(place)
        if is_uri(found):
            return None
        if place is None:
            check_owner(Path(found))
        seal = read_seal(Path(found))
        return None if seal is None or seal.manifest is None else Sealed(parse_manifest(seal.manifest, found), found)
    except (UdeverError, ValueError, OSError):  # opening the index says what is wrong
        return None


def describe(tuning: Tuning) -> str:
    """A tuning in words: `ivf_flat, 384 dimensions, effort 8, refined 4 times`."""
    said = [tuning.kind, f"{tuning.dimensions} dimensions"]
    said += [f"effort {tuning.effort}"] if tuning.effort else []
    said += [f"refined {tuning.refine} times"] if tuning.refine > 1 else []
    return ", ".join(said)


def _hit(found: FoundChunk) -> Hit:
    name = f"{found.path}:{found.chunk.first_line}-{found.chunk.last_line}"
    return Hit(score=found.score, id=name, source=found.path, **asdict(found.chunk))


def open_searchable(
    place: str | Path | None, columns: Columns | None = None, *, base: Path | None = None
) -> Searchable:
    """The index or the embeddings files at `place`; None is the index at or above the current folder.

    `columns` gives the map of embeddings files what stands beside their texts, `base` is as in `Index.open`. Raises
    DataError where there is neither.
    """
    place = None if place is None else str(place)
    if place is None or is_uri(place):
        return Index.open(place, base=base)
    if embeddings_at(place):
        if base is not None:
            raise DataError(f"{place} holds embeddings files, which have no files to read; --root is for an index")
        return EmbeddingsFiles(place, columns)
    if not Path(place).exists():
        otherwise = "give an index, or a folder of udever embed"
        raise DataError(f"{place} does not exist; {path_suggestion(place, otherwise)}")
    if is_job(Path(place)):
        raise DataError(f"{place} holds no embeddings; give an index, or a folder of udever embed")
    return Index.open(place, base=base)
