"""Which pairs make which batch: a pure function of the settings, the seed and the batch's number."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from udever.errors import DataError
from udever.pairs.columns import normalise
from udever.pairs.files import Rows, digest_batches
from udever.pairs.schedule import Balanced, Draws, RowTable, Walk, key_of, permute
from udever.pairs.schema import Pair, to_table
from udever.pairs.settings import DatasetSettings, DataSettings
from udever.pairs.sources import (
    Traits,
    choose_rows,
    count_empty,
    count_languages,
    division_of,
    open_table,
    share_duplicates,
    split_kinds,
)
from udever.pairs.split import Division
from udever.pairs.streams import Stream
from udever.pairs.taught import Taught, have_targets

Part = Walk | Balanced | Stream
"""Rows that are drawn together: one kind of one dataset, or, mixed, the dataset."""


@dataclass(frozen=True)
class Batch:
    """The pairs of one step; `traits[i]` are those of the dataset `pairs[i]` comes from.

    With `taught` it is of plain texts, each the anchor and the positive of a pair, and of one dataset.
    """

    number: int
    pairs: tuple[Pair, ...]
    traits: tuple[Traits, ...]
    taught: Taught | None = None


@dataclass(frozen=True)
class DatasetSummary:
    """A dataset of the mixture in numbers.

    `share` is its share of the batches (mixed: of the rows); `duplicate_anchors` and `duplicate_positives` the
    share of rows whose text stood in a row before; `kinds` and `languages` count rows. `num_left_out` are rows that
    no batch holds, since they are alone of their kind; `num_empty` lack a side and are left out by `skip_empty`;
    `num_held_out` are held out as the settings have it, and `num_repeating` left out since they repeat those;
    `num_untaught` are texts that the teacher has no vector of; `of_texts`: its rows are plain texts.
    What a stream would have to be read for is None or empty.
    """

    name: str
    num_pairs: int | None
    share: float
    batch_size: int
    duplicate_anchors: float | None
    duplicate_positives: float | None
    kinds: dict[str, int]
    languages: dict[str, int]
    num_left_out: int = 0
    num_empty: int = 0
    num_held_out: int = 0
    num_repeating: int = 0
    num_untaught: int = 0
    of_texts: bool = False


@dataclass(frozen=True)
class _Dataset:
    """One dataset, opened. `draws` says whose turn it is among `parts`."""

    traits: Traits
    weight: float
    batch_size: int
    parts: tuple[Part, ...]
    draws: Draws
    digest: str
    table: Rows | None = None
    chosen: "np.typing.NDArray[np.int64] | None" = None
    kinds: tuple[tuple[str, int], ...] = ()
    division: Division | None = None
    taught: Taught | None = None
    num_untaught: int = 0


class Mixture:
    """The training pairs of a recipe, as batches. Not made directly: see `open` and `of_pairs`."""

    def __init__(self, datasets: Sequence[_Dataset], batch_size: int, seed: int, *, mixed: bool) -> None:
        self._datasets = list(datasets)
        self._batch_size = batch_size
        self._mixed = mixed
        self._draws = Draws([dataset.weight for dataset in datasets], f"{seed} datasets")

    @classmethod
    def open(
        cls, settings: DataSettings, *, batch_size: int, seed: int, taught: Mapping[str, Taught] | None = None
    ) -> Self:
        """Open every dataset and check what can be checked without looking at each row in turn.

        `taught` are the teachers of datasets of plain texts, by the datasets' names; without it these are texts alone.
        Raises DataError in one line, naming file and row, for what is missing, broken, empty or no pair, and for texts
        a teacher has no vector of.
        """
        power = 1.0 if settings.sampling_temperature is None else settings.sampling_temperature
        datasets = [
            _open(
                dataset,
                _Plan(dataset.batch_size or batch_size, seed, power, settings.mixed),
                (taught or {}).get(dataset.name or ""),
            )
            for dataset in settings.all_datasets
        ]
        return cls(datasets, batch_size, seed, mixed=settings.mixed)

    @classmethod
    def of_pairs(cls, pairs: Sequence[Pair], batch_size: int, seed: int) -> Self:
        """A mixture of one dataset that lies in memory. Raises DataError for fewer than two pairs."""
        if len(pairs) < 2:
            raise DataError(f"{len(pairs)} training pair given; expected at least 2, to have a negative")
        rows = Rows(normalise(batch, "pairs", 0) for batch in to_table(pairs).combine_chunks().to_batches())
        digest = digest_batches(rows.batches)
        settings = DatasetSettings(name="pairs", path="pairs")
        dataset = _of_table(settings, rows, None, digest, _Plan(batch_size, seed, power=1.0, mixed=False))
        return cls([dataset], batch_size, seed, mixed=False)

    def batch(self, number: int) -> Batch:
        """Batch `number`, from 0, the same whenever it is asked for.

        At no cost for what does not stream. A stream reads on to the batch, or from its start if it is behind.
        """
        assert number >= 0
        if self._mixed:
            return self._mixed_batch(number)
        which, turn = self._draws.draw(number)
        dataset = self._datasets[which]
        part, turn = dataset.draws.draw(turn)
        pairs = dataset.parts[part].batch(turn)
        return Batch(number, tuple(pairs), (dataset.traits,) * len(pairs), dataset.taught)

    def _mixed_batch(self, number: int) -> Batch:
        first = number * self._batch_size
        turns = [self._draws.draw(row) for row in range(first, first + self._batch_size)]
        starts: dict[int, int] = {}
        counts: dict[int, int] = {}
        for which, turn in turns:
            starts.setdefault(which, turn)
            counts[which] = counts.get(which, 0) + 1
        found = {which: iter(self._datasets[which].parts[0].run(starts[which], counts[which])) for which in starts}
        pairs = tuple(next(found[which]) for which, _ in turns)
        return Batch(number, pairs, tuple(self._datasets[which].traits for which, _ in turns))

    @property
    def num_pairs(self) -> int:
        """Pairs of all datasets that do not stream."""
        return sum(part.num_rows or 0 for dataset in self._datasets for part in dataset.parts)

    @property
    def streams(self) -> bool:
        """Whether any dataset streams, so that nobody knows how long a pass is."""
        return bool(self._streams())

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass over every dataset: the full ones of each part, or its one smaller batch.

        With weights, one epoch is as many batches, though some rows come more often in it and others less.
        Raises DataError for a stream, which has no known end.
        """
        stream = next((d.traits.name for d in self._datasets for part in d.parts if part.num_rows is None), None)
        if stream is not None:
            raise DataError(f"dataset {stream!r} streams, so the length of a pass is unknown; set training.max_steps")
        if self._mixed:
            return max(1, self.num_pairs // self._batch_size)
        return sum(max(1, (part.num_rows or 0) // d.batch_size) for d in self._datasets for part in d.parts)

    @property
    def fingerprint(self) -> str:
        """A hash of the content of all datasets, in their order; of a stream of the hub, of its name."""
        parts = "\0".join(f"{dataset.traits.name}\0{dataset.digest}" for dataset in self._datasets)
        return hashlib.sha256(parts.encode()).hexdigest()[:32]

    def describe(self) -> list[DatasetSummary]:
        """Each dataset in numbers. Reads every text once."""
        total = sum(dataset.weight for dataset in self._datasets)
        return [_summarise(dataset, dataset.weight / total) for dataset in self._datasets]

    def state(self) -> dict[str, Any]:
        """Where each stream stands after the last batch made, as JSON can hold it; {} where nothing streams."""
        return {name: stream.state() for name, stream in self._streams().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises DataError where it is of other streams."""
        streams = self._streams()
        if set(state) != set(streams):
            raise DataError(f"the saved position is of {sorted(state)}; this data streams {sorted(streams)}")
        for name, stream in streams.items():
            stream.restore(state[name])

    def texts(self, limit: int | None = None) -> Iterator[str]:
        """Anchors and positives, batch by batch, at most `limit` and of at most one epoch.

        Leaves streams where they stood; a mixture with streams needs a limit.
        """
        count = 0
        number_of_batches = self.batches_per_epoch if limit is None or not self._streams() else limit
        saved = self.state()
        try:
            for number in range(number_of_batches):
                for pair in self.batch(number).pairs:
                    for text in dict.fromkeys((pair.anchor, pair.positive)):
                        if count == limit:
                            return
                        yield text
                        count += 1
        finally:
            self.restore(saved)

    def pairs(self) -> Iterator[Pair]:
        """Every row of the datasets that do not stream, once, in the order they are stored."""
        for dataset in self._datasets:
            if dataset.table is not None:
                numbers = np.arange(len(dataset.table)) if dataset.chosen is None else dataset.chosen
                for start in range(0, len(numbers), 4096):
                    yield from dataset.table.take(numbers[start : start + 4096])

    def _streams(self) -> dict[str, Stream]:
        return {d.traits.name: part for d in self._datasets for part in d.parts if isinstance(part, Stream)}


@dataclass(frozen=True)
class _Plan:
    """How a dataset is to be walked."""

    batch_size: int
    seed: int
    power: float
    mixed: bool


def _open(settings: DatasetSettings, plan: _Plan, teacher: Taught | None) -> _Dataset:
    if settings.streaming:
        stream, turns = Stream(settings, plan.batch_size), Draws([1.0], "stream")
        weight = settings.weight or 1.0
        return _Dataset(traits_of(settings), weight, plan.batch_size, (stream,), turns, stream.digest)
    rows, digest = open_table(settings)
    if not len(rows):
        raise DataError(f"dataset {settings.name!r} holds no pairs; expected at least 2")
    division = division_of(rows, settings, digest)
    known, num_untaught = (None, 0) if teacher is None else have_targets(rows, settings, teacher)
    chosen = choose_rows(rows, settings, f"{plan.seed} {settings.name}", division, taught=known)
    digest = digest if teacher is None else f"{digest}\0{teacher.digest}"
    dataset = _of_table(settings, rows, chosen, digest, plan)
    return replace(dataset, division=division, taught=teacher, num_untaught=num_untaught)


def rows_of(settings: DatasetSettings, seed: int) -> list[Pair]:
    """The rows that the settings keep, in an order of chance; there may be none.

    Raises DataError for files that cannot be read.
    """
    rows, digest = open_table(settings)
    name = f"{seed} {settings.name}"
    chosen = choose_rows(rows, settings, name, division_of(rows, settings, digest), least=0)
    numbers = np.arange(len(rows)) if chosen is None else chosen
    order = permute(np.arange(len(numbers)), len(numbers), key_of(name, "order")) if len(numbers) else numbers
    return RowTable(rows, settings.kind, settings.num_negatives).take(numbers[order])


def traits_of(settings: DatasetSettings) -> Traits:
    """What the settings give all rows of a dataset."""
    assert settings.name is not None
    return Traits(
        name=settings.name,
        in_batch_negatives=settings.in_batch_negatives,
        instruction=settings.instruction,
        document_instruction=settings.document_instruction,
        closeness=settings.closeness if settings.text else 0.0,
        neighbours=settings.neighbours if settings.text else 0.0,
    )


def _of_table(settings: DatasetSettings, rows: Rows, chosen: Any, digest: str, plan: _Plan) -> _Dataset:
    kinds = {settings.kind: chosen} if settings.kind else split_kinds(rows, chosen)
    counts = {kind: len(rows) if numbers is None else len(numbers) for kind, numbers in kinds.items()}
    kind = None if settings.text else settings.kind  # nobody asks a text's kind
    table = RowTable(rows, kind, settings.num_negatives)
    seed = f"{plan.seed} {settings.name}"
    power = settings.language_temperature

    def part_of(numbers: "np.typing.NDArray[np.int64] | None", name: str) -> Walk | Balanced:
        if power is None:
            return Walk(table, numbers, plan.batch_size, name)
        return Balanced(table, numbers, plan.batch_size, power, name)

    if plan.mixed:
        parts = (part_of(chosen, seed),)
        passes = float(parts[0].num_rows)
    else:
        # A row that is alone of its kind has nothing to be told apart from.
        several = {kind: numbers for kind, numbers in kinds.items() if counts[kind] > 1}
        if not several:
            raise DataError(f"dataset {settings.name!r} has one row of each kind; expected at least 2 of one")
        parts = tuple(part_of(numbers, f"{seed} {kind}") for kind, numbers in several.items())
        passes = sum(part.passes for part in parts)
    return _Dataset(
        traits=traits_of(settings),
        weight=settings.weight or passes**plan.power,
        batch_size=plan.batch_size,
        parts=parts,
        draws=Draws([part.passes for part in parts], f"{seed} kinds"),
        digest=digest,
        table=rows,
        chosen=chosen,
        kinds=tuple((str(kind), count) for kind, count in counts.items()),
    )


def _summarise(dataset: _Dataset, share: float) -> DatasetSummary:
    name, size = dataset.traits.name, dataset.batch_size
    if dataset.table is None:
        return DatasetSummary(name, None, share, size, None, None, {}, {})
    table, chosen = dataset.table, dataset.chosen
    num_pairs = sum(part.num_rows or 0 for part in dataset.parts)
    return DatasetSummary(
        name=name,
        num_pairs=num_pairs,
        share=share,
        batch_size=size,
        duplicate_anchors=share_duplicates(table, "anchor", chosen),
        duplicate_positives=share_duplicates(table, "positive", chosen),
        kinds=dict(dataset.kinds),
        languages=count_languages(table, chosen),
        num_left_out=sum(count for _, count in dataset.kinds) - num_pairs,
        num_empty=count_empty(table),
        num_held_out=dataset.division.num_held_out if dataset.division else 0,
        num_repeating=sum(dataset.division.skipped.values()) if dataset.division else 0,
        num_untaught=dataset.num_untaught,
        of_texts=dataset.taught is not None,
    )
