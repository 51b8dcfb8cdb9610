"""`udever audit INDEX`: whether an index is what was written, and what its model makes of its texts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.search.index import Index
from udever.search.locate import only_writer, open_store
from udever.search.seal import damage, read_seal
from udever.search.store import UNFINISHED, Store, parse_manifest

if TYPE_CHECKING:
    from udever.embedder import Embedder

_SHOWN = 20
_FARTHEST = {"float32": 1e-2, "other": 1e-1}


@dataclass
class IndexAudit:
    """What was found. `findings` is empty where everything holds; `more` counts those too many to list."""

    num_files: int = 0
    num_chunks: int = 0
    num_sampled: int = 0
    findings: list[str] = field(default_factory=list)
    more: int = 0

    def note(self, *findings: str) -> None:
        """More findings."""
        room = max(0, _SHOWN - len(self.findings))
        self.findings += findings[:room]
        self.more += len(findings[room:])


def audit(place: str, load: Callable[[str, str], "Embedder"], *, sample: int = 0, seed: int = 0) -> IndexAudit:
    """Check the index at `place`.

    What must hold: every byte is the one that was written (for an index in a folder); the last update came to its end;
    each file has its chunks; all vectors are finite. `sample` of the chunks, drawn by `seed`, are embedded again by
    `load(model, precision)` and compared. Raises ContractError where that is another model, DataError where there is
    no index.
    """
    store = open_store(place)
    result = IndexAudit()
    with only_writer(store.folder):
        if store.folder is not None:
            _check_seal(store.folder, result)
        try:
            text = store.read_manifest()
            if text is None:
                raise DataError(f"{place} has no manifest; make it again with udever index --rebuild")
            manifest = parse_manifest(text, store.uri)
            ids, embeddings = _check_content(store, result)
            if sample and ids:
                rows = np.random.default_rng(seed).choice(len(ids), min(sample, len(ids)), replace=False)
                stored = {ids[row]: embeddings[row] for row in rows}
                _check_sample(Index(store), load(manifest.model, manifest.precision), stored, result)
        except DataError as error:
            if not result.findings:
                raise
            result.note(str(error))
    return result


def _check_seal(folder: Path, result: IndexAudit) -> None:
    result.note(*(f"{found}; run udever index again" for found in damage(folder)))
    if result.findings:
        return
    seal = read_seal(folder)
    if seal is None or not seal.finished:
        result.note("its last update did not come to its end; run udever index again")


def _check_content(store: Store, result: IndexAudit) -> tuple[list[str], NDArray[np.float32]]:
    """Note what is wrong with files and chunks; return ids and embeddings."""
    files = store.files()
    ids, embeddings = store.embeddings()
    result.num_files, result.num_chunks = len(files), len(ids)
    unfinished = sum(record.digest == UNFINISHED for record in files.values())
    if unfinished:
        result.note(f"{unfinished} files are not written to the end; run udever index again")
    finite = np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1)
    if not finite.all():
        result.note(
            f"{int((~finite).sum())} vectors are not finite or have no length, as that of {ids[int(finite.argmin())]}"
        )
    if len(set(ids)) != len(ids):
        result.note(f"{len(ids) - len(set(ids))} chunks are there more than once")
    return ids, embeddings


def _check_sample(
    index: Index, embedder: "Embedder", stored: dict[str, NDArray[np.float32]], result: IndexAudit
) -> None:
    index.check(embedder)
    found = index.store.take(list(stored))
    result.num_sampled = len(found)
    made = embedder.encode_document([chunk.chunk.passage for chunk in found], truncate_dim=index.manifest.dimensions)
    farthest = _FARTHEST.get(index.manifest.precision, _FARTHEST["other"])
    for chunk, vector in zip(found, made, strict=True):
        if not np.linalg.norm(stored[chunk.id] - vector) <= farthest:
            where = f"{chunk.path}:{chunk.chunk.first_line}-{chunk.chunk.last_line}"
            result.note(f"the vector of {where} is not what the model makes of its text; run udever index --rebuild")
