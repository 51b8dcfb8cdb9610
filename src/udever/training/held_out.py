"""Scores on the way: loss and retrieval on the held-out rows of a recipe's own data."""

import warnings

from udever.embedder import Embedder
from udever.errors import DataError
from udever.evaluation import score_pairs
from udever.pairs.mixture import Batch, Mixture
from udever.pairs.schema import Pair
from udever.pairs.settings import DatasetSettings, DataSettings
from udever.pairs.sources import Traits
from udever.text.grouping import Held
from udever.training.grad_cache import held_out_loss
from udever.training.loop import Evaluate
from udever.training.recipe import Recipe

_BATCH_SIZE = 64

Row = tuple[Pair, Traits]


def held_out_batches(recipe: Recipe) -> list[Batch]:
    """Rows whose split is held_out, at most `watch.evaluate_queries` in all; none of streams.

    Those rows are left out whose anchor or positive (of classification: whose anchor) also is, exactly or nearly, a
    text of the rows that are trained on; how many is told as a LeakWarning.
    """
    rows: list[Row] = []
    datasets = [d for d in recipe.data.all_datasets if not d.streaming]
    for dataset in datasets:
        changes = {"split": "held_out", "weight": None, "batch_size": None, "cap": None}
        try:
            settings = DataSettings(datasets=[dataset.model_copy(update=changes)])
            mixture = Mixture.open(settings, batch_size=2, seed=recipe.training.seed)
        except DataError:
            continue  # this dataset keeps no rows back
        number = max(1, min(mixture.batches_per_epoch, recipe.watch.evaluate_queries // (2 * len(datasets))))
        batches = [mixture.batch(i) for i in range(number)]
        rows += [row for batch in batches for row in zip(batch.pairs, batch.traits, strict=True)]
    rows = _unseen(rows, datasets, recipe.training.seed) if rows else []
    parts = [rows[start : start + _BATCH_SIZE] for start in range(0, len(rows), _BATCH_SIZE)]
    return [Batch(n, tuple(p for p, _ in part), tuple(t for _, t in part)) for n, part in enumerate(parts)]


class LeakWarning(UserWarning):
    """Held-out rows that repeat training rows were not scored."""


def _unseen(rows: list[Row], datasets: list[DatasetSettings], seed: int) -> list[Row]:
    held = Held(text for pair, _ in rows for text in _compared(pair))
    seen: set[int] = set()
    for dataset in datasets:
        try:
            settings = DataSettings(datasets=[dataset.model_copy(update={"weight": None})])
            mixture = Mixture.open(settings, batch_size=2, seed=seed)
        except DataError:
            continue  # the run itself says what is wrong with it
        seen.update(*held.matches(text for pair in mixture.pairs() for text in _compared(pair)))
    kept = [row for row in rows if seen.isdisjoint(map(held.number, _compared(row[0])))]
    if len(kept) < len(rows):
        warnings.warn(
            f"{len(rows) - len(kept):,} of {len(rows):,} held-out rows repeat texts of training rows, exactly or "
            f"nearly, and are not scored; split the data so that no text is on both sides",
            LeakWarning,
            stacklevel=2,
        )
    return kept


def _compared(pair: Pair) -> tuple[str, ...]:
    """The texts that must be new; the positives of a class stand for it on both sides."""
    return (pair.anchor,) if pair.kind == "classification" else (pair.anchor, pair.positive)


def scorer(recipe: Recipe) -> Evaluate | None:
    """What scores an embedder on the recipe's held-out rows; None where there are none, or none are asked for."""
    batches = held_out_batches(recipe) if recipe.watch.evaluate_queries else []
    pairs = [pair for batch in batches for pair in batch.pairs]
    if not pairs:
        return None

    def evaluate(embedder: Embedder) -> dict[str, float]:
        loss = held_out_loss(embedder, batches, recipe.loss)
        return {"held-out loss": loss, **score_pairs(embedder, pairs, seed=recipe.training.seed).means}

    return evaluate
