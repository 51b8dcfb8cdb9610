"""`udever train` with its scores: the training room and the evaluation room joined over a recipe's held-out rows."""

from typing import Any

from udever.config import Recipe
from udever.data.mixture import Batch, Mixture
from udever.data.settings import DataSettings
from udever.embedder import Embedder
from udever.errors import DataError
from udever.evaluate import RetrievalSet, score_embedder
from udever.train import History, run_recipe
from udever.train.step import held_out_loss


def train(recipe: Recipe, **options: Any) -> History:
    """`run_recipe`, with loss and retrieval on the held-out rows of the recipe's own data where it has some."""
    return run_recipe(recipe, evaluate=_scorer(recipe), **options)


def held_out_batches(recipe: Recipe) -> list[Batch]:
    """Rows whose split is held_out, in batches of two, at most `watch.evaluate_queries` rows in all; no streams."""
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
    return batches


def _scorer(recipe: Recipe) -> Any:
    batches = held_out_batches(recipe)
    if not batches:
        return None
    pairs = [pair for batch in batches for pair in batch.pairs]
    questions = RetrievalSet.from_pairs(pairs, seed=recipe.training.seed)
    together = [_joined(batches[start : start + 32]) for start in range(0, len(batches), 32)]

    def evaluate(embedder: Embedder) -> dict[str, float]:
        loss = held_out_loss(embedder, together, recipe.loss.options())
        return {"held-out loss": loss, **score_embedder(embedder, questions).means}

    return evaluate


def _joined(batches: list[Batch]) -> Batch:
    return Batch(
        batches[0].number,
        tuple(pair for batch in batches for pair in batch.pairs),
        tuple(traits for batch in batches for traits in batch.traits),
    )
