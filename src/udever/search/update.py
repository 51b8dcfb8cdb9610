"""Bring an index up to date with the files it covers: only what changed is cut again, only new text is embedded.

A file is taken as unchanged by its size and time, else by the hash of its bytes; a chunk by the hash of its
passage, wherever it stood before. Files are written in windows, each in an order that a stop at any point leaves
nothing lost or doubled: records of the window's files are marked unfinished, their chunks replaced, their records
finished. The next run does the unfinished ones again and finds their vectors in the store.
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError, FileRefused, TextError
from udever.progress import progress_bar
from udever.search.coverage import WalkedFile, covering, full_name, is_under, missing_roots, new_manifest, scan
from udever.search.index import check_embedder, other_model
from udever.search.locate import check_paths, only_writer, prepare
from udever.search.seal import damage, read_seal, unsealed
from udever.search.store import (
    CUT,
    UNFINISHED,
    ChunkRow,
    FileRecord,
    IndexManifest,
    Store,
    base_of,
    digest_of,
    parse_manifest,
    saved_fingerprint,
)
from udever.search.tune import has_outgrown, tune
from udever.source.chunks import Chunk, cut_file
from udever.source.reading import left_out, read
from udever.text.words import words

if TYPE_CHECKING:
    from udever.embedder import Embedder

WINDOW_CHUNKS = 512
WINDOW_FILES = 1_000
_TRUSTED_AFTER_NS = 2_000_000_000
"""A file written this shortly before it was read may change again without its time changing."""


@dataclass
class Update:
    """What one run did.

    `num_files` and `num_chunks` are what the index holds now; of its files `num_changed` were cut anew and
    `num_removed` left it; of their distinct passages `num_embedded` went through the model and `num_reused` did
    not; `num_truncated` of the chunks written were longer than the model takes. `skipped` counts files left out
    by reason; `gone` are the covered paths that are not there any more. `damaged` says which files of the index were
    not as they had been written: all of it was made anew then.
    """

    num_files: int = 0
    num_chunks: int = 0
    num_changed: int = 0
    num_removed: int = 0
    num_embedded: int = 0
    num_reused: int = 0
    num_truncated: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class _Window:
    """Files to be written together: their records, and path, number and chunk of each chunk."""

    records: list[FileRecord] = field(default_factory=list)
    chunks: list[tuple[str, int, Chunk]] = field(default_factory=list)


class _Run:
    """One update of one store."""

    def __init__(self, store: Store, manifest: IndexManifest, load: Callable[[], "Embedder"]):
        self.store = store
        self.manifest = manifest
        self.load = load
        self.skipped: Counter[str] = Counter()
        self.done = Update()
        self.window = _Window()
        self.touched: list[FileRecord] = []
        self.started_ns = time.time_ns()

    def files(self, *, show_progress: bool) -> None:
        """Write what is new or changed, then take away what is gone: a file renamed keeps its vectors so."""
        base = base_of(self.manifest, self.store.folder)
        records = self.store.files()
        self.done.gone = missing_roots(self.manifest, base)
        seen = scan(self.manifest, base, self.store, self.skipped)
        doubtful = [file for file in seen.values() if not self._is_unchanged(file, records.get(file.path))]
        with progress_bar("indexing", len(doubtful), enabled=show_progress and bool(doubtful)) as advance:
            for file in doubtful:
                if not self._read(file, records.get(file.path)):
                    seen.pop(file.path)
                advance(note=file.path)
            self._write()
        gone = [path for path in records if path not in seen]
        if gone:
            self.store.put_files([replace(records[path], digest=UNFINISHED) for path in gone])
            self.store.replace(gone, [], np.empty((0, self.manifest.dimensions), np.float32))
            self.store.forget_files(gone)
        self.done.num_removed = len(gone)
        self.store.put_files(self.touched)

    def _is_unchanged(self, file: WalkedFile, record: FileRecord | None) -> bool:
        if record is None or record.digest == UNFINISHED:
            return False
        if (record.size_bytes, record.mtime_ns) != (file.size_bytes, file.mtime_ns):
            return False
        if record.reason:
            self.skipped[left_out(record.reason, file.path)] += 1
        return True

    def _read(self, file: WalkedFile, record: FileRecord | None) -> bool:
        """Take a file into the window where its bytes are new; False where it cannot be read."""
        try:
            data = file.found.read()
        except FileRefused as refused:
            self.skipped[f"file: {refused.reason}"] += 1
            return False
        is_settled = self.started_ns - file.mtime_ns > _TRUSTED_AFTER_NS
        new = FileRecord(file.path, len(data), file.mtime_ns if is_settled else -1, digest_of(data))
        if record is not None and record.digest == new.digest:
            if record.reason:
                self.skipped[left_out(record.reason, file.path)] += 1
            new = replace(new, num_chunks=record.num_chunks, reason=record.reason)
            if new != record:
                self.touched.append(new)
            return True
        found = read(data, file.path, is_asked=file.found.is_asked)
        if found.text is None:
            self.skipped[left_out(found.reason, file.path)] += 1
        elif found.guess:
            self.skipped[f"text: of an encoding that was guessed ({found.guess})"] += 1
        chunks = [] if found.text is None else cut_file(found.text, file.path, self.manifest.language, self.skipped)
        self.window.records.append(replace(new, num_chunks=len(chunks), reason=found.reason))
        self.window.chunks += [(file.path, number, chunk) for number, chunk in enumerate(chunks)]
        self.done.num_changed += 1
        if len(self.window.chunks) >= WINDOW_CHUNKS or len(self.window.records) >= WINDOW_FILES:
            self._write()
        return True

    def _write(self) -> None:
        """Embed what is new in the window and commit it: unfinished, chunks, finished."""
        window, self.window = self.window, _Window()
        if not window.records:
            return
        passages = {digest_of(chunk.passage.encode()): chunk.passage for _, _, chunk in window.chunks}
        vectors = dict(self.store.known(list(passages)))
        self.done.num_reused += len(vectors)
        missing = [digest for digest in passages if digest not in vectors]
        bad: set[str] = set()
        for digest, vector in zip(missing, self._embed([passages[digest] for digest in missing]), strict=True):
            if vector is None:
                bad.add(digest)
            else:
                vectors[digest] = vector
        self.done.num_embedded += len(missing) - len(bad)
        rows = []
        for path, number, chunk in window.chunks:
            digest = digest_of(chunk.passage.encode())
            if digest in bad:
                self.skipped["chunk: cannot be embedded"] += 1
                continue
            said = " ".join(words(f"{path} {chunk.parent} {chunk.text}"))
            rows.append(ChunkRow(path, number, chunk, digest, said, vectors[digest][1]))
        self.done.num_truncated += sum(row.truncated for row in rows)
        embeddings = np.empty((len(rows), self.manifest.dimensions), np.float32)
        for place, row in enumerate(rows):
            embeddings[place] = vectors[row.digest][0]
        self.store.put_files([replace(record, digest=UNFINISHED) for record in window.records])
        self.store.replace([record.path for record in window.records], rows, embeddings)
        self.store.put_files(window.records)

    def _embed(self, texts: list[str]) -> list[tuple[NDArray[np.float32], bool] | None]:
        """A vector for each text and whether it was cut; None for one that the model cannot embed."""
        if not texts:
            return []
        embedder = self.load()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # what was cut is counted and told at the end
                vectors = embedder.encode_document(texts, truncate_dim=self.manifest.dimensions)
        except TextError:
            if len(texts) == 1:
                return [None]
            middle = len(texts) // 2
            return [*self._embed(texts[:middle]), *self._embed(texts[middle:])]
        assert embedder.last_truncation is not None, "encoding sets it"
        return [(vector, bool(cut)) for vector, cut in zip(vectors, embedder.last_truncation.truncated, strict=True)]


class _Model:
    """The model, loaded when it is first needed, once, and compared with what the index was made by."""

    def __init__(self, name: str, load: Callable[[str], "Embedder"]):
        self.name = name
        self._load = load
        self._embedder: Embedder | None = None

    def embedder(self) -> "Embedder":
        """The model, loaded."""
        if self._embedder is None:
            self._embedder = self._load(self.name)
        return self._embedder

    def embedder_for(self, manifest: IndexManifest, uri: str) -> "Embedder":
        """The model, loaded; ContractError where it is not the one of `manifest`."""
        embedder = self.embedder()
        check_embedder(uri, manifest, self.name, embedder)
        return embedder

    def check(self, manifest: IndexManifest, uri: str) -> None:
        """Raise ContractError for another model than that of `manifest`, loading it only where nothing else tells."""
        # a folder in floating point has another fingerprint once it is loaded in eight bits
        fingerprint = saved_fingerprint(self.name) if manifest.precision != "int8" else None
        if fingerprint is None and full_name(self.name) != manifest.model:
            fingerprint = self.embedder().fingerprint
        if fingerprint is not None and fingerprint != manifest.fingerprint:
            raise other_model(uri, manifest, self.name, fingerprint)


@dataclass(frozen=True)
class IndexSettings:
    """How an index is made; what is None stays as the index remembers it.

    `model`: name or folder; `exclude`: patterns as in a .gitignore; `language`: of prose whose path names none.
    """

    model: str | None = None
    exclude: tuple[str, ...] | None = None
    language: str | None = None


def _old_manifest(store: Store, *, rebuild: bool) -> IndexManifest | None:
    """The manifest that stands; None where there is none, or a damaged one that is to be replaced.

    To be replaced is what the seal remembers, whatever has become of the store.
    """
    try:
        sealed = read_seal(store.folder) if rebuild and store.folder is not None else None
    except ValueError:
        sealed = None
    try:
        text = sealed.manifest if sealed is not None and sealed.manifest else store.read_manifest()
        return None if text is None else parse_manifest(text, store.uri)
    except DataError:
        if rebuild:
            return None
        raise


def _begin(
    store: Store, paths: Sequence[Path], settings: IndexSettings, load: Callable[[str], "Embedder"], *, rebuild: bool
) -> tuple[IndexManifest, _Model]:
    """The manifest that is to hold, written, and the model; a new index is made where there is none."""
    old = _old_manifest(store, rebuild=rebuild)
    given = {"cut": CUT, "exclude": settings.exclude, "language": settings.language}
    changes = {name: value for name, value in given.items() if value is not None}
    if old is None or rebuild:
        name = settings.model or (old.model if old is not None else None)
        if name is None:
            raise DataError(f"{store.uri} is to be made anew; name the model to make it with: -m MODEL")
        model = _Model(name, load)
        embedder = model.embedder()
        if old is None:
            manifest = new_manifest(store, paths, name, embedder).model_copy(update=changes)
        else:
            changes |= {
                "fingerprint": embedder.fingerprint,
                "precision": embedder.precision,
                "dimensions": embedder.dimensions,
                "tuning": None,
            }
            manifest = covering(old.model_copy(update=changes), base_of(old, store.folder), paths)
        store.create(embedder.dimensions)
    else:
        model = _Model(settings.model or old.model, load)
        model.check(old, store.uri)
        manifest = covering(old.model_copy(update=changes), base_of(old, store.folder), paths)
    manifest = manifest.model_copy(update={"model": full_name(model.name)})
    before = None if rebuild else old
    if before is not None:
        _mark(store, before, manifest)
    if manifest != before:
        store.write_manifest(manifest.model_dump_json())
    return manifest, model


def _mark(store: Store, before: IndexManifest, after: IndexManifest) -> None:
    """Mark the records of what is to be cut anew, before the manifest is written: a stop between loses nothing."""
    added = set(after.roots) - set(before.roots)  # a file that is named is read, whatever it was left out for
    records = store.files().values() if added or _decides(before) != _decides(after) else ()
    marked = [record for record in records if _decides(before) != _decides(after) or is_under(record.path, added)]
    if marked:
        store.put_files([replace(record, digest=UNFINISHED) for record in marked])


def _decides(manifest: IndexManifest) -> tuple[object, ...]:
    """What the chunks of an unchanged file depend on: a pattern may ask for a file that was left out as data."""
    return manifest.cut, manifest.language, manifest.exclude


def _check_mending(store: Store, settings: IndexSettings, load: Callable[[str], "Embedder"]) -> None:
    """Raise ContractError where a damaged index, which is made anew, would become that of another model unasked."""
    old = _old_manifest(store, rebuild=True)
    if old is not None and settings.model is not None:
        _Model(settings.model, load).check(old, store.uri)


def update_index(
    store: Store,
    paths: Sequence[Path],
    load: Callable[[str], "Embedder"],
    settings: IndexSettings = IndexSettings(),
    *,
    rebuild: bool = False,
    show_progress: bool = False,
) -> Update:
    """Make the index in `store` agree with the files under `paths` and with those it covers already.

    `load` makes an Embedder of a model's name; it is called only where something has to be embedded or nothing
    else tells the model's fingerprint. What is not as it was written is made anew.
    `rebuild` drops all chunks first and keeps what the index covers. Raises
    ContractError where the index holds another model's vectors, DataError for a path that does not exist or is
    not below what the index covers.
    """
    started = time.perf_counter()
    check_paths(paths)
    if store.folder is not None:
        prepare(store.folder)
    with only_writer(store.folder):
        damaged = damage(store.folder) if store.folder is not None else []
        if damaged and not rebuild:
            _check_mending(store, settings, load)
        # without a manifest is one that is new, or that was left so by a kill while it was made anew
        anew = rebuild or bool(damaged) or store.read_manifest() is None
        with unsealed(store, anew=anew):
            resolved = [path.resolve() for path in paths]
            manifest, model = _begin(store, resolved, settings, load, rebuild=anew)
            run = _Run(store, manifest, lambda: model.embedder_for(manifest, store.uri))
            run.files(show_progress=show_progress)
            done = run.done
            done.num_files, done.num_chunks = _settle(store, manifest)
    done.skipped = dict(sorted(run.skipped.items()))
    done.damaged = damaged
    done.seconds = time.perf_counter() - started
    return done


def _settle(store: Store, manifest: IndexManifest) -> tuple[int, int]:
    """Take new chunks into the indexes; make a first approximate one where exact search has become slow."""
    if store.is_unsettled():
        store.optimise()
    num_chunks = store.count()
    if has_outgrown(manifest.tuning, num_chunks):
        tune(store, quick=True)
    return len(store.files()), num_chunks
