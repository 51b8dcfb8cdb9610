"""Ask an index: by meaning, by words, or by both; within some languages, paths and kinds."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError, FileRefused
from udever.globs import check_pattern
from udever.search.absent import no_language, no_path
from udever.search.coverage import base_of, check_embedder
from udever.search.hits import Hit
from udever.search.locate import find_index, open_store
from udever.search.manifest import Manifest, Tuning, parse_manifest
from udever.search.store import FileRecord, Found, Store, Where, digest_of, file_id
from udever.search.trust import check_owner, own_model, readable_base
from udever.source.chunks import KINDS
from udever.source.gitignore import Patterns
from udever.source.languages import known, mteb_language
from udever.source.reading import read
from udever.source.walk import Found as SourceFile
from udever.text.words import words

if TYPE_CHECKING:
    from udever.embedder import Embedder

Mode = Literal["meaning", "words", "both"]
MODES: tuple[str, ...] = get_args(Mode)

RRF_CONSTANT = 60
"""Reciprocal rank fusion as Cormack, Clarke and Buettcher give it (SIGIR 2009)."""

MAX_READ_LINES = 400
MAX_QUERY = 8192
"""Characters of a question."""

MAX_WORDS = 1024
"""Words of a question that are looked up, in its order."""

MAX_PATTERNS = 64
"""Path patterns of one search."""

_PATTERNS_S = 5.0
"""How long matching the paths of an index may take."""

_FUSED_DEPTH = 50
_FRESH_S = 2.0
_LANGUAGES_S = 10.0


@dataclass(frozen=True)
class Filters:
    """What hits may be. An empty entry is no condition.

    `languages` as mteb writes them (`python-Code`, `deu-Latn`; `python` and `de` do too); `paths` patterns as in a
    .gitignore, of files or folders, the last that matches deciding (`src/**`, `!src/old`); `kinds` of chunks.
    """

    languages: Sequence[str] = ()
    paths: Sequence[str] = ()
    kinds: Sequence[str] = ()


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


def fuse(rankings: Sequence[Sequence[str]]) -> dict[str, float]:
    """Reciprocal rank fusion: for each id the sum over `rankings` of 1 / (60 + its rank from 1), best first.

    Equal sums are in the order of the first ranking that names them.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + 1 / (RRF_CONSTANT + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def full_language(name: str) -> str:
    """A language as the index writes it: `python` -> `python-Code`, `de` -> `deu-Latn`."""
    if known(name):
        return mteb_language(name)
    return name if "-" in name else f"{name}-Code"


def _passes(path: str, patterns: Patterns, *, otherwise: bool) -> bool:
    """Whether the patterns want `path`: asked of each folder above it and of itself, the deepest answer counts."""
    parts = path.split("/")
    wanted: bool | None = None
    for number in range(1, len(parts) + 1):
        answer = patterns.decide("/".join(parts[:number]), is_folder=number < len(parts))
        wanted = wanted if answer is None else answer
    return otherwise if wanted is None else wanted


def _matching(given: Sequence[str], paths: Iterable[str]) -> Iterator[str]:
    """The paths that the patterns want. Raises DataError for too many patterns, RecipeError for one too long."""
    if len(given) > MAX_PATTERNS:
        raise DataError(f"{len(given)} path patterns; at most {MAX_PATTERNS} go into one search")
    for pattern in given:
        check_pattern(pattern)
    patterns = Patterns(given)
    only_exceptions = all(pattern.startswith("!") for pattern in given)
    end_s = time.monotonic() + _PATTERNS_S
    for path in paths:
        if time.monotonic() > end_s:
            raise DataError(f"matching the path patterns took longer than {_PATTERNS_S:g} s; give fewer, simpler ones")
        if _passes(path, patterns, otherwise=only_exceptions):
            yield path


def num_unused_words(query: str) -> int:
    """How many words of a question are too many to be looked up."""
    return max(0, len(words(query[:MAX_QUERY])) - MAX_WORDS)


def where_of(filters: Filters, files: dict[str, FileRecord]) -> Where:
    """The filter as a store takes it. Raises DataError for a kind that does not exist."""
    unknown = [kind for kind in filters.kinds if kind not in KINDS]
    if unknown:
        raise DataError(f"kind is {unknown[0]!r}; expected one of {', '.join(KINDS)}")
    ids = None
    if filters.paths:
        ids = tuple(file_id(path) for path in _matching(filters.paths, files))
    return Where(
        languages=tuple(map(full_language, filters.languages)) or None, kinds=tuple(filters.kinds) or None, files=ids
    )


class Index:
    """An index to be asked. What another process writes to it is seen after two seconds at most."""

    def __init__(self, store: Store, base: Path | None = None):
        self.store = store
        self._base = base
        self._languages: tuple[float, dict[str, int]] = (-math.inf, {})
        self._manifest = self._read()
        self._read_at = time.monotonic()

    @classmethod
    def open(cls, place: str | None = None, *, base: Path | None = None) -> Self:
        """The index at `place`: a folder, one with an index inside, a URI; None: at or above the current folder.

        `base` is the folder its paths start from, where that is not the one it lies in and files are to be read.
        Raises DataError where there is none, or where one that was found belongs to another user.
        """
        found = find_index(place)
        if place is None:
            check_owner(Path(found))
        return cls(open_store(found), base)

    def _read(self) -> Manifest:
        text = self.store.read_manifest()
        if text is None:
            raise DataError(f"{self.store.uri} holds no index; make one with: udever index PATH -m MODEL")
        return parse_manifest(text, self.store.uri)

    @property
    def manifest(self) -> Manifest:
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

    def search(
        self,
        embedder: "Embedder | None",
        query: str,
        top_k: int = 10,
        *,
        mode: Mode = "both",
        filters: Filters = Filters(),
        instruction: str | None = None,
    ) -> list[Hit]:
        """The `top_k` best chunks for `query`, best first; fewer only where fewer pass the filters.

        By "words" no embedder is needed, and chunks without any of the words are no hits. Scores are cosines by
        "meaning", BM25 by "words", sums of reciprocal ranks by "both". Raises ContractError for another model.
        """
        if mode == "words":
            return self.find(query, None, top_k, mode=mode, filters=filters)
        assert embedder is not None, "searching by meaning needs the model"
        self.check(embedder)
        embedding = embedder.encode_query([query], instruction=instruction, dimensions=self.manifest.dimensions)[0]
        return self.find(query, embedding, top_k, mode=mode, filters=filters)

    def find(
        self,
        query: str,
        embedding: NDArray[np.float32] | None,
        top_k: int = 10,
        *,
        mode: Mode = "both",
        filters: Filters = Filters(),
    ) -> list[Hit]:
        """As `search`, for one who has embedded the query already."""
        if mode not in MODES:
            raise DataError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
        if top_k < 1:
            raise DataError(f"top_k is {top_k}; ask for at least one hit")
        if len(query) > MAX_QUERY:
            raise DataError(f"the query has {len(query):,} characters; at most {MAX_QUERY:,} are searched, shorten it")
        where = where_of(filters, self.store.files() if filters.paths else {})
        depth = max(_FUSED_DEPTH, 2 * top_k) if mode == "both" else top_k
        by_words = [] if mode == "meaning" else self.store.matching(words(query)[:MAX_WORDS], depth, where)
        if mode == "words":
            return [_hit(found, found.score) for found in by_words]
        assert embedding is not None, "searching by meaning needs the query's embedding"
        tuning = self.manifest.tuning or Tuning(dimensions=self.manifest.dimensions)
        by_meaning = self.store.nearest(embedding, depth, where, tuning)
        if mode == "meaning":
            return [_hit(found, found.score) for found in by_meaning]
        all_found = {found.id: found for found in (*by_meaning, *by_words)}
        fused = fuse([[found.id for found in by_meaning], [found.id for found in by_words]])
        return [_hit(all_found[name], score) for name, score in list(fused.items())[:top_k]]

    def notes(self, query: str, mode: Mode, filters: Filters) -> list[str]:
        """What someone should know who searched so: filters that nothing passes, words that were not looked up."""
        notes: list[str] = []
        if filters.languages:
            languages = self._known_languages()
            absent = [name for name in map(full_language, filters.languages) if name not in languages]
            notes += [no_language(name[:100], languages) for name in absent[:3]]
        if filters.paths:
            files = self.store.files()
            if next(_matching(filters.paths, files), None) is None:
                notes.append(no_path(filters.paths, files))
        unused = num_unused_words(query) if mode != "meaning" else 0
        return notes + ([f"the last {unused:,} words of the query were not looked up"] if unused else [])

    def _known_languages(self) -> dict[str, int]:
        read_at, languages = self._languages
        if time.monotonic() - read_at > _LANGUAGES_S:
            languages = self.store.languages()
            self._languages = (time.monotonic(), languages)
        return languages

    def status(self) -> Status:
        """What the index holds and how it is searched."""
        manifest, tuning = self.manifest, self.manifest.tuning
        return Status(
            uri=self.store.uri,
            base=str(base_of(manifest, self.store)),
            model=manifest.model,
            fingerprint=manifest.fingerprint,
            dimensions=manifest.dimensions,
            num_files=len(self.store.files()),
            num_chunks=self.store.count(),
            search=describe(tuning) if tuning is not None else "exact",
        )

    def points(self, limit: int) -> tuple[list[Found], NDArray[np.float32]]:
        """At most `limit` chunks, the same for the same index, with their embeddings [chunks, dimensions]."""
        ids, embeddings = self.store.embeddings()
        order = sorted(range(len(ids)), key=lambda row: ids[row])[:limit]  # ids are hashes: any of them are a sample
        found = {chunk.id: chunk for chunk in self.store.take([ids[row] for row in order])}
        return [found[ids[row]] for row in order], embeddings[order]

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
            data = SourceFile(file, path, base).read()
        except FileRefused as refused:
            raise DataError(f"{path} {refused.reason}; run udever index again") from refused
        found = read(data, path, is_asked=True)
        if found.text is None:
            raise DataError(f"{path} is {found.reason}; only text can be read")
        text = found.text
        lines = text.removesuffix("\n").split("\n")
        last_line = min(last_line or first_line + MAX_READ_LINES - 1, first_line + MAX_READ_LINES - 1, len(lines))
        if not 1 <= first_line <= last_line:
            raise DataError(f"lines {first_line} to {last_line} of {path}; it has {len(lines)}")
        shown = "\n".join(lines[first_line - 1 : last_line])
        return Lines(path, first_line, last_line, len(lines), shown, digest_of(data) != record.digest)


def describe(tuning: Tuning) -> str:
    """A tuning in words: `ivf_flat, 384 dimensions, effort 8, refined 4 times`."""
    said = [tuning.kind, f"{tuning.dimensions} dimensions"]
    said += [f"effort {tuning.effort}"] if tuning.effort else []
    said += [f"refined {tuning.refine} times"] if tuning.refine > 1 else []
    return ", ".join(said)


def _hit(found: Found, score: float) -> Hit:
    chunk = asdict(found.chunk)
    return Hit(
        score=score,
        id=f"{found.path}:{found.chunk.first_line}-{found.chunk.last_line}",
        text=chunk.pop("text"),
        source=found.path,
        **chunk,
    )
