"""Scores on the way: loss and retrieval on the held-out rows of a recipe's own data."""

import warnings

from udever.embedder import Embedder
from udever.errors import DataError
from udever.evaluation import RetrievalSet, score_embedder
from udever.pairs.mixture import Batch, Mixture
from udever.pairs.schema import Pair
from udever.pairs.settings import DatasetSettings, DataSettings
from udever.text.grouping import Held
from udever.training.grad_cache import held_out_loss
from udever.training.loop import Evaluate
from udever.training.recipe import Recipe


def held_out_batches(recipe: Recipe) -> list[Batch]:
    """Rows whose split is held_out, in batches of two, at most `watch.evaluate_queries` rows in all; no streams.

    Of each batch those rows are left out whose anchor or positive (of classification: whose anchor) also is, exactly
    or nearly, a text of the rows that are trained on; how many is told as a LeakWarning.
    """
    batches: list[Batch] = []
    datasets = [d for d in recipe.data.all_datasets if not d.streaming]
    for dataset in datasets:
        changes = {"split": "held_out", "weight": None, "batch_size": None, "cap": None}
        try:
            settings = DataSettings(datasets=[dataset.model_copy(update=changes)])
            mixture = Mixture.open(settings, batch_size=2, seed=recipe.training.seed)
        except DataError:
            continue  # this dataset keeps no rows back
        number = max(1, min(mixture.batches_per_epoch, recipe.watch.evaluate_queries // (2 * len(datasets))))
        batches += [mixture.batch(i) for i in range(number)]
    return _unseen(batches, datasets, recipe.training.seed) if batches else []


class LeakWarning(UserWarning):
    """Held-out rows that repeat training rows were not scored."""


def _unseen(batches: list[Batch], datasets: list[DatasetSettings], seed: int) -> list[Batch]:
    held = Held(text for batch in batches for pair in batch.pairs for text in _compared(pair))
    seen: set[int] = set()
    for dataset in datasets:
        try:
            settings = DataSettings(datasets=[dataset.model_copy(update={"weight": None})])
            mixture = Mixture.open(settings, batch_size=2, seed=seed)
        except DataError:
            continue  # the run itself says what is wrong with it
        seen.update(*held.matches(text for pair in mixture.pairs() for text in _compared(pair)))
    kept: list[Batch] = []
    for batch in batches:
        new = [i for i, pair in enumerate(batch.pairs) if seen.isdisjoint(map(held.number, _compared(pair)))]
        if new:
            pairs, traits = zip(*((batch.pairs[i], batch.traits[i]) for i in new), strict=True)
            kept.append(Batch(batch.number, pairs, traits))
    total, left = (sum(len(batch.pairs) for batch in some) for some in (batches, kept))
    if left < total:
        warnings.warn(
            f"{total - left:,} of {total:,} held-out rows repeat texts of training rows, exactly or nearly, and are "
            f"not scored; split the data so that no text is on both sides",
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
    questions = RetrievalSet.from_pairs(pairs, seed=recipe.training.seed)
    together = [_joined(batches[start : start + 32]) for start in range(0, len(batches), 32)]

    def evaluate(embedder: Embedder) -> dict[str, float]:
        loss = held_out_loss(embedder, together, recipe.loss)
        return {"held-out loss": loss, **score_embedder(embedder, questions).means}

    return evaluate


def _joined(batches: list[Batch]) -> Batch:
    return Batch(
        batches[0].number,
        tuple(pair for batch in batches for pair in batch.pairs),
        tuple(traits for batch in batches for traits in batch.traits),
    )
