"""`udever negatives`: pairs in, the same pairs with hard negatives out, in memory that holds no text twice.

What grows with the data: a few numbers for each row and document, and with BM25 its index. Texts stay in the
mapped file, vectors in a temporary file beside the output.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from udever.embedder import Embedder
from udever.errors import DataError, RecipeError
from udever.pairs.candidates import (
    Candidates,
    Documents,
    Files,
    KnownAnswers,
    Limit,
    Texts,
    Vectors,
    by_vectors,
    by_words,
    identities,
    judge,
    keys,
    number_documents,
    take_turns,
    windows,
)
from udever.pairs.files import (
    Rows,
    check_pairs_output,
    digest_files,
    files_under,
    hold,
    meant_columns,
    read_batches,
    size_in_memory,
    without_empty,
)
from udever.pairs.schema import KINDS, SCHEMA, Kind, to_table
from udever.pairs.settings import Side, sides_of
from udever.progress import progress_bar
from udever.search.bm25 import Bm25
from udever.storage import atomic_file, unchanged
from udever.text.grouping import Held

Mode = Literal["meaning", "words", "both"]

_SPARE = 32
"""How many more candidates BM25 gives than are wanted, since the model turns some down."""


@dataclass(frozen=True)
class Options:
    """How hard negatives are chosen.

    Of the corpus (the positives of the pairs, or column `column` of the file `corpus`) the best are taken by
    `mode`, less the known positives, what scores above `max_share` of the positive's score or above it less
    `margin`, and the first `skip_top` of the rest: the first `num_negatives`, or as many drawn at random from the
    first `sample_from`. BM25 finds, and the model judges; without a model BM25 does both. With `siblings` the best
    among the positives that stand in the row's own file (column `source`) take turns with them. `scores` writes
    the judge's scores of positive and negatives. `columns` names the columns of the table for those of pairs, and
    `skip_empty` leaves out its rows without a side, which are refused otherwise.
    """

    num_negatives: int = 4
    mode: Mode = "meaning"
    corpus: Path | None = None
    column: str = "text"
    max_share: float = 0.95
    margin: float | None = None
    skip_top: int = 0
    sample_from: int | None = None
    siblings: bool = False
    scores: bool = False
    instruction: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_empty: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_negatives < 1 or self.skip_top < 0:
            given = f"num_negatives {self.num_negatives}, skip_top {self.skip_top}"
            raise RecipeError(f"{given}; expected num_negatives at least 1 and skip_top at least 0")
        if self.sample_from is not None and self.sample_from < self.num_negatives:
            raise RecipeError(
                f"sample_from is {self.sample_from}; expected at least num_negatives, {self.num_negatives}"
            )
        if self.siblings and self.corpus is not None:
            raise RecipeError(
                f"siblings are positives of the pairs, and {self.corpus} is searched in their place; "
                f"leave out siblings or corpus"
            )
        if not self.max_share <= 1:
            raise RecipeError(f"max_share is {self.max_share}; expected at most 1, such as 0.95")
        if self.margin is not None and not self.margin >= 0:
            raise RecipeError(f"margin is {self.margin}; expected at least 0, such as 0.05")

    @property
    def depth(self) -> int:
        """How many candidates a row needs."""
        return self.skip_top + (self.sample_from or self.num_negatives)


@dataclass(frozen=True)
class NegativesSummary:
    """What was found: rows in all, rows of the train split, of those with all negatives asked for and with none."""

    num_rows: int
    num_train: int
    num_full: int
    num_without: int
    num_replaced: int
    num_documents: int


@dataclass(frozen=True)
class _Side:
    """The rows that are embedded alike, and how: their anchors, and what may answer them."""

    rows: NDArray[np.int64]
    asking: Side
    answering: Side


def _sides(rows: Rows, train: NDArray[np.bool_], instruction: str | None) -> list[_Side]:
    """The rows of the train split by how their kinds are read."""
    kinds: dict[tuple[Side, Side], list[Kind]] = defaultdict(list)
    for kind in KINDS:
        kinds[sides_of(kind, instruction)].append(kind)
    masks = {sides: np.any([rows.equal("kind", kind) for kind in of], axis=0) for sides, of in kinds.items()}
    return [_Side(np.flatnonzero(train & mask), *sides) for sides, mask in masks.items()]


def mine_negatives(
    embedder: Embedder | None, pairs: Path, output: Path, options: Options, *, show_progress: bool = False
) -> NegativesSummary:
    """Write the pairs of the file `pairs` with hard negatives to `output` (Parquet).

    Rows of the train split get new negatives in place of any they had; others stay as they are, and neither they
    nor what repeats them, exactly or nearly, become negatives. Nor does what nearly is a row's own positive. The
    same for the same files, model, options and seed. Without `embedder` the search is by BM25 alone. Raises
    DataError for files that cannot be read or give no candidate.
    """
    if embedder is None and options.mode != "words":
        raise RecipeError(f"searching by {options.mode} takes a model; give one (-m MODEL), or search by words")
    if embedder is None and options.siblings:
        raise RecipeError("finding siblings takes a model; give one (-m MODEL), or leave them out")
    check_pairs_output(output, [pairs, *([options.corpus] if options.corpus else [])])
    rows = _open_pairs(pairs, options)
    corpus = None
    if options.corpus is not None:
        corpus = _open(options.corpus, {"anchor": options.column, "positive": options.column}, others=False)
    texts = Texts(rows, corpus)
    chosen = np.full((len(rows), options.num_negatives), -1, np.int64)
    scores = np.zeros((len(rows), 1 + options.num_negatives), np.float64)
    train = rows.equal("split", "train")
    if not train.any():
        raise DataError(f"{pairs} holds no pairs of split 'train'; expected at least one row")
    others = rows.take(np.flatnonzero(~train))
    held = Held(text for pair in others for text in (pair.anchor, pair.positive))
    num_documents = 0
    with (
        atomic_file(output) as temporary,
        # in the folder that goes with the next run where this one is killed
        tempfile.TemporaryDirectory(dir=temporary.parent) as scratch,
    ):
        for side in _sides(rows, train, options.instruction):
            if len(side.rows):
                work = _Work(embedder, texts, held, side, options, chosen, scores)
                num_documents += work.run(Path(scratch), show_progress)
        num_replaced = _write(texts, train, chosen, scores if options.scores else None, temporary)
    counts = (chosen >= 0).sum(axis=1)[train]
    return NegativesSummary(
        num_rows=len(rows),
        num_train=int(train.sum()),
        num_full=int((counts == options.num_negatives).sum()),
        num_without=int((counts == 0).sum()),
        num_replaced=num_replaced,
        num_documents=num_documents,
    )


def _open_pairs(path: Path, options: Options) -> Rows:
    rows = _open(path, meant_columns(path, options.columns), skip_empty=options.skip_empty)
    if options.siblings and all(part.null_count == len(part) for part in rows.column("source")):
        raise DataError(f"{path}: no row names its file in 'source', so that none has siblings; leave siblings out")
    return rows


def _open(path: Path, mapping: dict[str, str], *, others: bool = True, skip_empty: bool = False) -> Rows:
    files = files_under(path, texts=not others)
    is_same = unchanged(files)
    key = f"{digest_files(files)} {sorted(mapping.items())} {others} {skip_empty}"
    read = partial(read_batches, path, mapping, others=others, keep_empty=skip_empty)
    rows = hold(read, key, size_in_memory(path), is_same)
    rows = without_empty(rows) if skip_empty else rows
    if not len(rows):
        raise DataError(f"{path} holds no rows; expected at least one")
    return rows


@dataclass
class _Work:
    """The search for one side.

    `chosen` gets the places of its negatives in corpus + rows, `scores` the judge's scores of positive and negatives.
    """

    embedder: Embedder | None
    texts: Texts
    held: Held
    side: _Side
    options: Options
    chosen: NDArray[np.int64]
    scores: NDArray[np.float64]
    documents: Documents = field(init=False)
    known: KnownAnswers = field(init=False)
    vectors: Vectors | None = field(init=False)
    index: Bm25 | None = None

    def run(self, scratch: Path, show_progress: bool) -> int:
        """Fill `chosen` and `scores`; return how many documents were searched."""
        self._prepare()
        self.vectors = self._embedded(scratch, show_progress)
        if self.options.mode != "meaning":
            self.index = Bm25(self.texts.documents(self.documents.origins))
        with progress_bar("searching", len(self.side.rows), enabled=show_progress) as advance:
            for start, end in windows(len(self.side.rows)):
                numbers = self.side.rows[start:end]
                anchors = [pair.anchor for pair in self.texts.rows.take(numbers)]
                self._choose(self._find(anchors, start), numbers)
                advance(end - start)
        return self.documents.num_candidates

    def _prepare(self) -> None:
        """Number the documents, and find out which of them answer which rows."""
        of, rows, corpus = self.side.rows, self.texts.rows, self.texts.corpus
        anchors, positives = (identities(rows.column(name))[of] for name in ("anchor", "positive"))
        in_corpus = identities(corpus.column("positive")) if corpus is not None else np.zeros(0, np.int64)
        documents = number_documents(in_corpus, positives, anchors)
        # Places among the side's rows become places among all.
        own = documents.origins >= len(in_corpus)
        origins = documents.origins.copy()
        origins[own] = of[origins[own] - len(in_corpus)] + len(in_corpus)
        every = np.ones(len(rows), bool)
        families = [
            anchors & 2**62 - 1,
            keys(rows.column("group"), every)[of],
            keys(rows.column("label"), rows.equal("kind", "classification"))[of],
        ]
        files = None
        if self.options.siblings:
            sources = keys(rows.column("source"), every)
            files = Files(sources[of], sources[origins])
        self.known = KnownAnswers(documents, families, *self._near(documents.of_row, origins))
        self.documents = replace(documents, origins=origins, files=files)

    def _near(
        self, of_row: NDArray[np.int64], origins: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Documents that repeat a held-out text, and [row of the side, document that nearly is its positive]."""
        answers = np.unique(of_row)
        texts = self.texts.documents(origins[answers])
        positives = Held(texts)
        rows_of: dict[int, list[int]] = defaultdict(list)
        spelled = {document: positives.number(text) for document, text in zip(answers.tolist(), texts, strict=True)}
        for row, document in enumerate(of_row.tolist()):
            rows_of[spelled[document]].append(row)
        withheld: list[int] = []
        near: list[tuple[int, int]] = []
        for start, end in windows(len(origins)):
            some = self.texts.documents(origins[start:end])
            withheld += (start + np.flatnonzero(self.held.repeated(some))).tolist()
            for document, found in enumerate(positives.matches(some), start):
                near += [(row, document) for number in found for row in rows_of[number] if document != of_row[row]]
        return np.array(withheld, np.int64), np.array(near, np.int64).reshape(-1, 2)

    def _encoder(self, side: Side) -> Callable[[list[str]], Vectors]:
        embedder = self.embedder
        assert embedder is not None
        role, instruction = side
        return partial(embedder.encode, prompt_name=role, instruction=instruction, normalize_embeddings=True)

    def _embedded(self, scratch: Path, show_progress: bool) -> Vectors | None:
        """The vectors of all documents, in a file of their own."""
        if self.embedder is None:
            return None
        count = len(self.documents.origins)
        path = scratch / self.side.answering[0]
        encode = self._encoder(self.side.answering)
        # Written, not mapped for writing: on a full disk a mapped page ends the process, a write says so.
        with (
            progress_bar("embedding", count, enabled=show_progress) as advance,
            atomic_file(path) as temporary,
            temporary.open("wb") as file,
        ):
            for start, end in windows(count):
                vectors = encode(self.texts.documents(self.documents.origins[start:end]))
                file.write(vectors.astype(np.float32, copy=False).tobytes())
                advance(end - start)
        return np.memmap(path, np.float32, "r", shape=(count, self.embedder.dimensions))

    def _find(self, anchors: list[str], start: int) -> list[Candidates]:
        """What each finder has for rows `start` on of the side, which have these anchors, judged."""
        limit = Limit(self.options.max_share, self.options.margin)
        documents, known, depth = self.documents, self.known, self.options.depth
        if self.vectors is None:
            assert self.index is not None
            return [by_words(self.index, anchors, documents, known, start, limit, depth)]
        distinct = list(dict.fromkeys(anchors))
        places = {text: place for place, text in enumerate(distinct)}
        queries = self._encoder(self.side.asking)(distinct)[[places[text] for text in anchors]]
        near: list[Candidates] = []
        if self.options.mode != "words" or documents.files is not None:
            near = by_vectors(queries, self.vectors, documents, known, start, limit, depth)
        found = near[:1] if self.options.mode != "words" else []
        if self.index is not None:
            words = by_words(self.index, anchors, documents, known, start, None, depth + _SPARE)
            positive = np.einsum("qd,qd->q", queries, self.vectors[documents.of_row[start : start + len(anchors)]])
            found.append(judge(words, queries, self.vectors, positive, limit))
        return [*found, *near[1:]]

    def _choose(self, found: list[Candidates], numbers: NDArray[np.int64]) -> None:
        """Write the choice for each of the rows `numbers` into `chosen` and `scores`."""
        for place, number in enumerate(numbers.tolist()):
            ranked = take_turns([one.of(place)[self.options.skip_top :] for one in found])
            if self.options.sample_from is not None:
                random = np.random.default_rng([self.options.seed, number])
                pool = ranked[: self.options.sample_from]
                size = min(self.options.num_negatives, len(pool))
                ranked = [pool[i] for i in sorted(random.choice(len(pool), size, replace=False))] if pool else []
            self.scores[number, 0] = found[0].positive[place]
            for slot, (document, score) in enumerate(ranked[: self.options.num_negatives]):
                self.chosen[number, slot] = self.documents.origins[document]
                self.scores[number, 1 + slot] = score


def _write(
    texts: Texts, train: NDArray[np.bool_], chosen: NDArray[np.int64], scores: NDArray[np.float64] | None, output: Path
) -> int:
    """Write all rows, those of `train` with their new negatives; return how many of these had others."""
    num_replaced = 0
    with output.open("wb") as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for start, end in windows(len(train)):
            pairs = texts.rows.take(np.arange(start, end))
            origins = np.unique(chosen[start:end])
            origins = origins[origins >= 0]
            by_origin = dict(zip(origins.tolist(), texts.documents(origins), strict=True))
            for place, pair in enumerate(pairs):
                if train[start + place]:
                    mine = [by_origin[origin] for origin in chosen[start + place].tolist() if origin >= 0]
                    own = None if scores is None else tuple(scores[start + place, : 1 + len(mine)].tolist())
                    num_replaced += bool(pair.negatives)
                    pairs[place] = replace(pair, negatives=tuple(mine), scores=own)
            writer.write_table(to_table(pairs))
    return num_replaced
