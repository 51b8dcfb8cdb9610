"""Scores on the way: loss and retrieval on the held-out rows of a recipe's own data, and what they are measured by."""

import hashlib
import heapq
import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from udever.embedder import Embedder
from udever.errors import DataError
from udever.evaluation.held_out import check_queries, score_pairs
from udever.evaluation.tasks import read_rows
from udever.nearest import meant, path_suggestion
from udever.pairs.mixture import Batch, Mixture, rows_of, traits_of
from udever.pairs.schema import Pair
from udever.pairs.settings import DatasetSettings, DataSettings
from udever.pairs.sources import Traits
from udever.pairs.split import compared
from udever.text.grouping import Held
from udever.training.batches import text_id
from udever.training.grad_cache import held_out_loss
from udever.training.log import Measure
from udever.training.objectives import LossSettings
from udever.training.recipe import Recipe

_BATCH_SIZE = 64
_OTHERWISE = ", or set watch.evaluate_queries = 0"

ScoredRow = tuple[Pair, Traits]


class LeakWarning(UserWarning):
    """Held-out rows that repeat training rows were not scored."""


@dataclass
class _Sample:
    """Of pairs that pass by those with the distinct positives that a hash puts first, at most `limit`."""

    limit: int
    _kept: dict[str, Pair] = field(default_factory=dict)
    _order: list[tuple[int, str]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def offer(self, pair: Pair) -> None:
        key = text_id(pair.positive)
        if key in self._seen:
            return
        self._seen.add(key)
        heapq.heappush(self._order, (-key, pair.positive))
        self._kept[pair.positive] = pair
        if len(self._order) > self.limit:
            del self._kept[heapq.heappop(self._order)[1]]

    @property
    def pairs(self) -> list[Pair]:
        return list(self._kept.values())

    @property
    def num_seen(self) -> int:
        return len(self._seen)


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows of a recipe, and what else is searched besides their positives: those of others, a corpus."""

    batches: list[Batch]
    others: list[Pair]
    corpus: list[str]
    loss: LossSettings
    about: str
    """What those texts are, in words."""

    @property
    def pairs(self) -> list[Pair]:
        """The rows."""
        return [pair for batch in self.batches for pair in batch.pairs]

    def scores(self, embedder: Embedder) -> dict[str, float]:
        """Loss and retrieval of an embedder."""
        loss = held_out_loss(embedder, self.batches, self.loss)
        return {"held-out loss": loss, **score_pairs(embedder, self.pairs, self.others, self.corpus).means}

    def measure(self) -> Measure:
        """What scores are to be compared with."""
        found = score_pairs(None, self.pairs, self.others, self.corpus)
        return Measure(found.num_queries, found.num_documents, self.about, found.means, self._digest)

    @property
    def _digest(self) -> str:
        """Of all that scores depend on besides the embedder."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (*self.batches, *self.others, *self.corpus, self.loss):
            digest.update(f"{part!r}\0".encode(errors="surrogatepass"))
        return digest.hexdigest()


def held_out(recipe: Recipe) -> HeldOut | None:
    """What an embedder is scored on while it is trained; None where there are no rows for it, or none are asked for.

    Rows whose split is held_out, at most `watch.evaluate_queries` in all, shared out evenly among the datasets that
    have some; none of streams and plain texts. Those are left out whose anchor or positive (of classification: whose
    anchor) also is, exactly or nearly, a text of the rows that are trained on; how many is told as a LeakWarning. The
    candidates are all positives of the data, a sample where there are more than `watch.evaluate_candidates`, or the
    texts of `watch.evaluate_corpus`. Raises DataError where these cannot be read, and where no row asks for another
    text than its own.
    """
    watch, seed = recipe.watch, recipe.training.seed
    rows, rest = _asked(recipe)
    own = {pair.positive for pair, _ in rows}
    sample = _Sample(0 if watch.evaluate_corpus else max(0, watch.evaluate_candidates - len(own)))
    for pair in rest:
        sample.offer(pair)
    known = [dataset for dataset in recipe.data.all_datasets if not dataset.streaming]
    rows = _unseen(rows, known, seed, sample) if rows else []
    if not rows:
        return None
    own = {pair.positive for pair, _ in rows}
    if watch.evaluate_corpus:
        corpus = _corpus(Path(watch.evaluate_corpus), watch.evaluate_column)
        about = f"those of {watch.evaluate_corpus} and the held-out rows' own"
    else:
        corpus = []
        is_whole = len(sample.pairs) == sample.num_seen
        about = "all positives" if is_whole else f"a sample of {len(own) + sample.num_seen:,} positives"
    check_queries([pair for pair, _ in rows], sample.pairs, _OTHERWISE)
    return HeldOut(_batches(rows), sample.pairs, corpus, recipe.loss, about)


def check_held_out(recipe: Recipe) -> None:
    """Raise DataError where `held_out` would, without comparing texts where the rows alone tell that it would not."""
    rows, _ = _asked(recipe)
    if not rows:
        return
    if recipe.watch.evaluate_corpus:
        _corpus(Path(recipe.watch.evaluate_corpus), recipe.watch.evaluate_column)
    try:
        check_queries([pair for pair, _ in rows])
    except DataError:
        held_out(recipe)  # rows that are not held out may hold the answers


def _asked(recipe: Recipe) -> tuple[list[ScoredRow], list[Pair]]:
    """The held-out rows to ask, and the others."""
    watch, seed = recipe.watch, recipe.training.seed
    datasets = [dataset for dataset in recipe.data.all_datasets if not (dataset.streaming or dataset.text)]
    if not watch.evaluate_queries or not datasets:
        return [], []
    back = [dataset.model_copy(update={"split": "held_out", "cap": None}) for dataset in datasets]
    kept = [(traits_of(dataset), pairs) for dataset in back if (pairs := rows_of(dataset, seed))]
    each = max(1, watch.evaluate_queries // max(1, len(kept)))
    rows: list[ScoredRow] = [(pair, traits) for traits, pairs in kept for pair in pairs[:each]]
    return rows, [pair for _, pairs in kept for pair in pairs[each:]]


def _batches(rows: list[ScoredRow]) -> list[Batch]:
    """The rows in even parts: the loss of a row grows with its batch, and of one alone it is 0."""
    number = math.ceil(len(rows) / _BATCH_SIZE)
    bounds = [len(rows) * part // number for part in range(number + 1)]
    parts = [rows[first:stop] for first, stop in itertools.pairwise(bounds)]
    return [Batch(n, tuple(p for p, _ in part), tuple(t for _, t in part)) for n, part in enumerate(parts)]


def _unseen(rows: list[ScoredRow], datasets: list[DatasetSettings], seed: int, sample: _Sample) -> list[ScoredRow]:
    """The rows that repeat no text of the training rows; all pairs among these are offered to `sample` on the way."""
    held = Held(text for pair, _ in rows for text in compared(pair))
    seen: set[int] = set()
    for dataset in datasets:
        try:
            settings = DataSettings(datasets=[dataset.model_copy(update={"weight": None})])
            mixture = Mixture.open(settings, batch_size=2, seed=seed)
        except DataError:
            continue  # the run itself says what is wrong with it
        seen.update(*held.matches(_texts(mixture, None if dataset.text else sample)))
    kept = [row for row in rows if seen.isdisjoint(map(held.number, compared(row[0])))]
    if len(kept) < len(rows):
        warnings.warn(
            f"{len(rows) - len(kept):,} of {len(rows):,} held-out rows repeat texts of training rows, exactly or "
            f"nearly, and are not scored; split the data so that no text is on both sides",
            LeakWarning,
            stacklevel=2,
        )
    return kept


def _texts(mixture: Mixture, sample: _Sample | None) -> Iterator[str]:
    for pair in mixture.pairs():
        if sample:
            sample.offer(pair)
        yield from compared(pair)


def _corpus(path: Path, column: str) -> list[str]:
    if not path.is_file():
        hint = path_suggestion(path, "give a CSV, TSV, JSONL or Parquet file")
        raise DataError(f"watch.evaluate_corpus: {path} is not a file; {hint}")
    texts: list[str] = []
    for number, row in enumerate(read_rows(path)):
        text = row.get(column)
        if column not in row:
            raise DataError(
                f"{path} row {number} has no column {column!r} (it has {', '.join(row)}); "
                f"{meant(column, row, 'name it in watch.evaluate_column')}"
            )
        if isinstance(text, str) and text.strip():
            texts.append(text)
    return texts
