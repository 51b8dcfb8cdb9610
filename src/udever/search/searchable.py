"""Whatever can be searched: an index, embeddings files, a corpus in memory. What searches knows this class alone.

And what hits may be, with what to say where nothing can pass.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.nearest import nearest, suggestion
from udever.search.words_weight import WORDS_WEIGHT
from udever.source.chunks import KINDS, keeps_lines
from udever.source.gitignore import Patterns
from udever.source.globs import check_pattern
from udever.source.languages import known, mteb_language, near_language
from udever.text.words import words

if TYPE_CHECKING:
    from udever.embedder import Embedder
    from udever.model.contract import RoleName

Mode = Literal["meaning", "words", "both"]
MODES: tuple[str, ...] = get_args(Mode)

COLOURS = ("language", "kind", "label")
"""Columns of a corpus that a map is coloured by unless others are named."""

GROUP = "group"
"""The column that is equal for texts joined by lines unless another is named."""

DEPTH = 50
"""How many of the best by meaning and by words are joined."""

WORDS_DEPTH = 200
"""How many of the best by words say how widely BM25 is spread."""

MAX_QUERY = 8192
"""Characters of a question."""

MAX_WORDS = 1024
"""Words of a question that are looked up, in its order."""

MAX_PATTERNS = 64
"""Path patterns of one search."""

_PATTERNS_S = 5.0
"""How long matching the paths of an index may take."""

_Name = TypeVar("_Name", bound=Hashable)
Ranking = Sequence[tuple[_Name, float]]
"""Names with their scores, best first."""

_SHOWN = 8
_LOOKED_AT = 10_000


@dataclass(frozen=True)
class Filters:
    """Conditions that hits must meet. An empty entry is no condition.

    * `languages`: as mteb writes them (`python-Code`, `deu-Latn`); `python` and `de` are understood too.
    * `paths`: patterns as in a .gitignore, of files or folders; the last that matches decides (`src/**`, `!src/old`).
    * `kinds`: kinds of chunks.
    """

    languages: Sequence[str] = ()
    paths: Sequence[str] = ()
    kinds: Sequence[str] = ()

    def check_kinds(self) -> None:
        """Raise DataError for a kind that does not exist."""
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise DataError(f"kind is {unknown[0]!r}; {suggestion(unknown[0], KINDS, 'expected one of')}")


ALL = Filters()
"""The filters that everything passes."""


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

    @property
    def place(self) -> str:
        """Where it is, for people: a file's path with its lines, or the source and the row."""
        if self.first_line is not None or not self.source or self.id.startswith(self.source):
            return self.id
        return f"{self.source}, row {self.id}"

    @property
    def has_own_lines(self) -> bool:
        """Whether the lines of the text are those of the file, the first of them `first_line`."""
        if self.first_line is None or self.last_line is None:
            return False
        return are_own_lines(self.text, self.source or "", self.first_line, self.last_line)


def are_own_lines(text: str, path: str, first_line: int, last_line: int) -> bool:
    """Whether `text` is these lines of the file at `path`, not what was read out of them (HTML without its tags)."""
    return keeps_lines(path) and text.count("\n") == last_line - first_line


@dataclass(frozen=True)
class Vectors:
    """Rows with their vectors, `num_rows` in all of which these are some; `groups` may be empty, so may a group."""

    name: str
    fingerprint: str
    num_rows: int
    ids: list[str]
    texts: list[str]
    embeddings: NDArray[np.float32]
    columns: dict[str, list[str]]
    groups: list[str] = field(default_factory=list)

    def take(self, rows: Sequence[int]) -> "Vectors":
        """Some of the rows."""

        def of(values: list[str]) -> list[str]:
            return [values[row] for row in rows]

        return replace(
            self,
            ids=of(self.ids),
            texts=of(self.texts),
            embeddings=self.embeddings[rows],
            columns={name: of(values) for name, values in self.columns.items()},
            groups=of(self.groups) if self.groups else [],
        )

    def beside(self, found: Mapping[str, list[str]], wanted: Sequence[str] = COLOURS, group: str = GROUP) -> "Vectors":
        """The rows with the columns `wanted` and `group` of `found` that are not empty."""
        filled = {name: found[name] for name in wanted if any(found.get(name, ()))}
        groups = found.get(group, [])
        return replace(self, columns=filled | self.columns, groups=groups if any(groups) else [])


class Searchable(ABC):
    """Texts with vectors, to be searched by meaning, by words, or by both. All methods may be called in threads."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Where it is, or what it is called."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """The width of its vectors."""

    @property
    def question_role(self) -> "RoleName":
        """The role that questions are embedded in."""
        return "query"

    @property
    def words_weight(self) -> float:
        """What words weigh in a search by both, as `fuse` takes it."""
        return WORDS_WEIGHT

    @abstractmethod
    def count(self) -> int:
        """How many texts there are."""

    @abstractmethod
    def check(self, embedder: "Embedder") -> None:
        """Raise ContractError unless the vectors are of this very model."""

    @abstractmethod
    def texts(self, ids: Sequence[str]) -> Mapping[str, Hit]:
        """Whole texts by the ids that `vectors` gives; one that is not there is absent."""

    @abstractmethod
    def vectors(self, limit: int, ids: Collection[str] | None = None) -> Vectors:
        """At most `limit` rows with their vectors, the same each time, or those of `ids`: what a map shows."""

    @abstractmethod
    def _languages(self) -> Mapping[str, int]:
        """How many texts there are of each language."""

    @abstractmethod
    def _paths(self) -> Collection[str]:
        """The paths that `Filters.paths` are held against."""

    @abstractmethod
    def _within(self, filters: Filters) -> Any:
        """The filters as `_nearest` and `_matching` take them. Raises DataError for those that it cannot have."""

    @abstractmethod
    def _num_within(self, within: Any) -> int:
        """How many texts pass."""

    @abstractmethod
    def _nearest(self, embedding: NDArray[np.float32], top_k: int, within: Any) -> list[Hit]:
        """The texts with the highest inner product, best first."""

    @abstractmethod
    def _matching(self, said: Sequence[str], top_k: int, within: Any) -> list[Hit]:
        """The texts with the highest BM25 for any of these words, best first; without any of them it is no hit."""

    def prepare(self) -> None:  # noqa: B027  (most need nothing)
        """Get ready for many questions. Blocks."""

    def search(
        self,
        embedder: "Embedder | None",
        query: str,
        top_k: int = 10,
        *,
        mode: Mode = "both",
        filters: Filters = ALL,
        instruction: str | None = None,
    ) -> list[Hit]:
        """The `top_k` best texts for `query`, best first; fewer only where fewer pass the filters.

        By "words" no embedder is needed, and texts without any of the words are no hits. Scores are cosines by
        "meaning", BM25 by "words", by "both" from 0 to 1 (`fuse`). Raises ContractError for another model.
        """
        if mode == "words":
            return self.find(query, None, top_k, mode=mode, filters=filters)
        assert embedder is not None, "searching by meaning needs the model"

        def embed() -> NDArray[np.float32]:
            self.check(embedder)
            role, width = self.question_role, self.dimensions
            return embedder.encode([query], prompt_name=role, instruction=instruction, truncate_dim=width)[0]

        return self.find(query, embed, top_k, mode=mode, filters=filters)

    def find(
        self,
        query: str,
        embedding: NDArray[np.float32] | Callable[[], NDArray[np.float32]] | None,
        top_k: int = 10,
        *,
        mode: Mode = "both",
        filters: Filters = ALL,
    ) -> list[Hit]:
        """As `search`, for one who has embedded the query already, or does when words are found; None by "words"."""
        check_question(query, top_k, mode)
        filters.check_kinds()
        within = self._within(filters)
        is_both = mode == "both"
        by_words: list[Hit] = []
        if mode != "meaning":
            by_words = self._matching(words(query)[:MAX_WORDS], WORDS_DEPTH if is_both else top_k, within)
        if mode == "words":
            return by_words
        assert embedding is not None, "searching by meaning needs the query's embedding"
        vector = embedding() if callable(embedding) else embedding
        by_meaning = self._nearest(vector, max(DEPTH, top_k) if is_both else top_k, within)
        if mode == "meaning":
            return by_meaning
        # Pieces of one long line share their id.
        meant, said = ([((hit.id, hit.text), hit.score) for hit in hits] for hits in (by_meaning, by_words))
        hit_of = {(hit.id, hit.text): hit for hit in (*by_meaning, *by_words)}
        fused = fuse(meant, said, self._num_within(within), self.words_weight)
        return [replace(hit_of[name], score=score) for name, score in list(fused.items())[:top_k]]

    def notes(self, query: str, mode: Mode, filters: Filters) -> list[str]:
        """What someone should know who searched so: filters that nothing passes, words that were not looked up."""
        notes: list[str] = []
        if filters.languages:
            languages = self._languages()
            absent = [name for name in map(full_language, filters.languages) if name not in languages]
            notes += [no_language(name[:100], languages) for name in absent[:3]]
        if filters.paths:
            paths = self._paths()
            if next(matching_paths(filters.paths, paths), None) is None:
                notes.append(no_path(filters.paths, paths))
        unused = max(0, len(words(query[:MAX_QUERY])) - MAX_WORDS) if mode != "meaning" else 0
        return notes + ([f"the last {unused:,} words of the query were not looked up"] if unused else [])


def fuse(
    by_meaning: Ranking[_Name], by_words: Ranking[_Name], num_texts: int, words_weight: float
) -> dict[_Name, float]:
    """Each name's cosine and BM25, added: from 0 to 1, the share of what the meaning itself and the best words had.

    BM25 counts in standard deviations over all `num_texts` that were searched, of which those behind WORDS_DEPTH count
    as 0: words that few texts say weigh more than words that many do. Joined are `by_meaning` and the first DEPTH of
    `by_words`; what one of them lacks has there what the last of DEPTH has (by words 0 where there are fewer). Best
    first, equal ones in the order of `by_meaning`. Compare "An analysis of fusion functions for hybrid
    retrieval" (arXiv 2210.11934).
    """
    found = np.array([score for _, score in by_words[:WORDS_DEPTH]])
    spread = math.sqrt(max(0.0, (found @ found) / num_texts - (found.sum() / num_texts) ** 2)) if len(found) else 0.0
    meaning, words = dict(by_meaning), dict(by_words[:DEPTH])
    weight = words_weight / spread if spread > 0 else 0.0
    floor = by_meaning[:DEPTH][-1][1] if by_meaning else 0.0
    least = by_words[DEPTH - 1][1] if len(by_words) >= DEPTH else 0.0
    most = 1 + weight * (by_words[0][1] if by_words else 0.0)
    scores = {
        name: (max(0.0, meaning.get(name, floor)) + weight * words.get(name, least)) / most
        for name in dict.fromkeys([*meaning, *words])
    }
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def check_question(query: str, top_k: int, mode: str) -> None:
    """Raise DataError for a question that nothing can be asked."""
    if mode not in MODES:
        raise DataError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    if top_k < 1:
        raise DataError(f"top_k is {top_k}; ask for at least one hit")
    if len(query) > MAX_QUERY:
        raise DataError(f"the query has {len(query):,} characters; at most {MAX_QUERY:,} are searched, shorten it")


def full_language(name: str) -> str:
    """A language as the index writes it: `python` -> `python-Code`, `de` -> `deu-Latn`."""
    if known(name):
        return mteb_language(name)
    return name if "-" in name else f"{name}-Code"


def matching_paths(given: Sequence[str], paths: Iterable[str]) -> Iterator[str]:
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


def _passes(path: str, patterns: Patterns, *, otherwise: bool) -> bool:
    """Whether the patterns want `path`: asked of each folder above it and of itself, the deepest answer counts."""
    parts = path.split("/")
    wanted: bool | None = None
    for number in range(1, len(parts) + 1):
        answer = patterns.decide("/".join(parts[:number]), is_folder=number < len(parts))
        wanted = wanted if answer is None else answer
    return otherwise if wanted is None else wanted


def no_language(wanted: str, languages: Mapping[str, int]) -> str:
    """What to say of a language that no text has."""
    near = near_language(wanted, languages)
    there = f"there are {_listed(sorted(languages, key=lambda n: -languages[n]))}"
    return f"no file has the language {wanted}; {there if near is None else f'did you mean {near}?'}"


def no_path(patterns: Iterable[str], paths: Iterable[str]) -> str:
    """What to say of patterns that no path matches."""
    known = sorted(paths)
    tops = dict.fromkeys(f"{top}/" if inside else top for top, inside, _ in (p.partition("/") for p in known))
    given = list(patterns)
    shown = ", ".join(map(repr, given))
    if len(given) == 1 and (meant := nearest(given[0], known[:_LOOKED_AT])):
        return f"no path matches {shown[:200]}; did you mean {meant!r}?"
    near = nearest(given[0].lstrip("!").partition("/")[0], [top.rstrip("/") for top in tops]) if given else None
    if near is not None and near != given[0].lstrip("!").partition("/")[0]:
        return f"no path matches {shown[:200]}; did you mean {near!r}?"
    return f"no path matches {shown[:200]}; paths begin with {_listed(sorted(tops, key=lambda t: not t.endswith('/')))}"


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return (", ".join(names[:_SHOWN]) or "nothing") + (f" and {more:,} more" if more > 0 else "")
