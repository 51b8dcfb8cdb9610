"""`udever train`: a recipe from its TOML to a saved model."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from udever.config import ModelSettings, Recipe
from udever.data.pairs import Pair, read_pairs
from udever.embedder import Embedder
from udever.model.markers import with_markers
from udever.storage import check_replaceable
from udever.train.fresh import FRESH, make_base
from udever.train.loop import History, finetune

RECIPE_FILE = "recipe.toml"


def load_base(settings: ModelSettings, pairs: Sequence[Pair] = (), seed: int = 0) -> Embedder:
    """The backbone in float32, under the contract the recipe asks for.

    The base named `FRESH` is made on the spot: a tokenizer trained on the texts of `pairs`, random weights.
    """
    if settings.base == FRESH:
        with tempfile.TemporaryDirectory() as scratch:
            make_base([text for pair in pairs for text in (pair.anchor, pair.positive)], Path(scratch), seed=seed)
            embedder = load_base(settings.model_copy(update={"base": scratch}))
        embedder.name = FRESH
        return embedder
    changes = {}
    if settings.markers != "keep":
        changes = {
            "pooling": settings.pooling,
            "attention": settings.attention,
            "max_length": settings.max_length,
        }
    embedder = Embedder.load(settings.base, dtype="float32", **changes)
    model = embedder.backbone
    table = getattr(model, "word_embeddings", None)
    if table is None:
        table = model.model.get_input_embeddings()  # pyright: ignore[reportAttributeAccessIssue]
    contract = with_markers(embedder.contract, settings.markers, embedder.tokenizer.hf, table.weight.detach())
    embedder.use_contract(contract)
    return embedder


def run_recipe(recipe: Recipe, *, show_progress: bool = True) -> History:
    """Train as `recipe` says and write the model, its card and the resolved recipe into the output folder.

    Raises before any work where the output folder holds something that is not a model.
    """
    folder = Path(recipe.output.folder)
    check_replaceable(folder)
    pairs = [pair for path in recipe.data.pairs for pair in read_pairs(path, "train")]
    embedder = load_base(recipe.model, pairs, recipe.training.seed)
    history = finetune(embedder, pairs, recipe.training, show_progress=show_progress)
    save_trained(embedder, recipe, history, len(pairs), folder)
    return history


def save_trained(embedder: Embedder, recipe: Recipe, history: History, num_pairs: int, folder: Path) -> None:
    """Write the trained model into `folder`, with its recipe beside the weights."""
    embedder.save(
        folder,
        merged=recipe.output.save == "merged",
        base=recipe.model.base,
        notes=_notes(recipe, history, num_pairs),
        extra_files={RECIPE_FILE: recipe.to_toml()},
    )


def _notes(recipe: Recipe, history: History, num_pairs: int) -> str:
    last = history.steps[-20:]
    return f"""
## Training

{num_pairs:,} pairs, {len(history.steps):,} steps of {recipe.training.batch_size}, {history.num_trainable:,} parameters
moved; mean loss of the last {len(last)} steps {sum(step.loss for step in last) / len(last):.3f};
{history.num_truncated:,} texts were cut at {recipe.model.max_length} tokens. The resolved recipe is in `{RECIPE_FILE}`.
"""
