"""`train`: from a recipe to a saved model."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from udever.embedder import Embedder
from udever.errors import OutputError, RecipeError
from udever.loading import is_embedder, stored_precision
from udever.model.adapters import apply_tuning
from udever.model.markers import with_markers
from udever.pairs.mixture import Mixture
from udever.storage import check_replaceable, listed, resolved
from udever.training import checkpoint
from udever.training.card import FIGURE, figure, notes, results
from udever.training.distributed import gather, take_device
from udever.training.fresh import FRESH, make_base
from udever.training.log import LOG_FILE, History, Log
from udever.training.loop import Keeping, Trainer
from udever.training.recipe import RECIPE_FILE, ModelSettings, Recipe
from udever.training.run_folder import check_own, take
from udever.training.teacher import check_sizes, teachers_of
from udever.training.tuning import is_large, pick_tuning
from udever.training.validation import held_out

TRAINING_FILE = "training.json"
_TOKENIZER_TEXTS = 200_000


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    restart: bool = False,
    allow_changes: bool = False,
    show_progress: bool = True,
    tell: Callable[[str], None] | None = None,
) -> History:
    """Train as `recipe` says and write the model, its card and the resolved recipe into the output folder.

    `resume` continues from the last checkpoint (from the beginning where there is none), `restart` deletes what there
    is. `allow_changes` resumes although the recipe or the data changed. Held-out rows of the data are scored before,
    during and after training. SIGTERM and Ctrl-C end the run after the current step, with a checkpoint and without a
    model. With torchrun, every process that it started calls this. `tell` is given a line that says where the run goes
    on, or that what was begun is not gone on with.

    Raises OutputError where there are checkpoints and neither `resume` nor `restart` was given, where recipe or data
    changed without `allow_changes`, while another process trains there, and, before any work, where the output folder
    holds something that is not a model, or would hold the checkpoints, or where a log that is not ours lies there.
    """
    folder = Path(recipe.output.folder)
    datasets = recipe.data.all_datasets
    given = [recipe.model.base, *(path for dataset in datasets for path in (*dataset.paths, *dataset.teachers))]
    check_replaceable(folder, "model", given)
    kept = recipe.checkpoint_folder
    if resolved(kept).is_relative_to(resolved(folder)):
        raise OutputError(
            f"watch.checkpoints is {kept}, in the output {folder}, which is replaced whole; give a folder outside of it"
        )
    check_begun(kept, resume=resume, restart=restart)
    check_own(kept, [LOG_FILE])
    leads = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started one takes the places for all
    line = _going_on(kept, resume=resume, restart=restart)
    if tell is not None and leads and line is not None:
        tell(line)
    take_device()
    embedder, mixture = open_recipe(recipe)
    recipe = recipe.resolved(embedder.contract)
    with checkpoint.claimed(kept, enabled=leads), checkpoint.claimed(folder, enabled=leads):
        if leads:
            check_begun(kept, resume=resume, restart=restart)  # again: another may have been stopped there meanwhile
            checkpoint.clean_up(kept)
        scored = held_out(recipe)  # raises before anything of an earlier run is gone
        trainer = Trainer.prepare(embedder, mixture, recipe.training, recipe.loss)
        world = trainer.stepper.world
        if restart and world.leads:
            forget(kept)
        if world.leads:
            take(kept, [LOG_FILE])
        world.wait()
        # Watching changes no weight: other settings of it are no other run.
        same = recipe.model_dump(
            mode="json", exclude={"watch": True, "output": True, "training": {"memory_gb", "token_cache_gb"}}
        )
        keeping = Keeping(kept, same, recipe.watch, resume, allow_changes)
        with Log.open(kept, recipe, enabled=world.leads) as log:
            history = trainer.run(log, keeping, scored, show_progress=show_progress)
        world.wait()
        if not history.stopped:
            _save(trainer, recipe, history)
            world.wait()
    return history


def check_begun(folder: Path, *, resume: bool, restart: bool) -> None:
    """Raise OutputError where `folder` holds checkpoints and nobody said what becomes of them."""
    if resume and restart:
        raise OutputError("both --resume and --restart were given; give one of them")
    if checkpoint.checkpoints(folder) and not (resume or restart):
        raise OutputError(
            f"{folder} holds the checkpoints of an earlier run; go on with --resume, or begin anew with --restart"
        )


def _going_on(kept: Path, *, resume: bool, restart: bool) -> str | None:
    """Where a run in `kept` begins, in a line; None where none was begun there and none is sought."""
    found = checkpoint.checkpoints(kept)
    if resume and found:
        return f"training goes on behind step {checkpoint.step_of(found[-1]):,}, the last checkpoint in {kept}"
    is_begun = LOG_FILE in listed(kept, "run") and (kept / LOG_FILE).is_file()
    if restart or found or not (is_begun or resume):
        return None
    return f"there is no checkpoint in {kept} yet: training begins with the first step"


def forget(kept: Path) -> None:
    """Delete the checkpoints and the log of a run, and nothing else that may lie in its folder."""
    checkpoint.prune(kept, keep=0)
    if LOG_FILE in listed(kept, "run"):
        (kept / LOG_FILE).unlink(missing_ok=True)


def load_base(settings: ModelSettings, texts: Iterable[str] = (), seed: int = 0, dtype: str = "float32") -> Embedder:
    """The backbone, in the precision it is trained in or another, under the contract the recipe asks for.

    The base named `FRESH` is made on the spot: a tokenizer trained on `texts`, random weights. A base that is an
    embedder already keeps its contract, but for what the recipe names; its markers too where they are "auto".
    """
    if settings.base == FRESH:
        with tempfile.TemporaryDirectory() as scratch:
            make_base(list(texts), Path(scratch), seed=seed)
            embedder = load_base(settings.model_copy(update={"base": scratch}), dtype=dtype)
        embedder.name = FRESH
        return embedder
    own = is_embedder(settings.base)
    names = {"pooling", "attention", "max_length"}
    asked = names & settings.model_fields_set if own or settings.markers == "keep" else names
    changes = {name: getattr(settings, name) for name in asked}
    embedder = Embedder.load(settings.base, dtype=dtype, suffix=settings.suffix or None, **changes)
    if settings.markers == "keep" or settings.suffix or (own and settings.markers == "auto"):
        return embedder
    model = embedder.backbone
    table = getattr(model, "word_embeddings", None)
    if table is None:
        table = model.model.get_input_embeddings()  # pyright: ignore[reportAttributeAccessIssue]
    contract = with_markers(embedder.contract, settings.markers, embedder.tokenizer.hf, table.weight.detach())
    embedder.use_contract(contract)
    return embedder


def open_recipe(recipe: Recipe, dtype: str = "float32") -> tuple[Embedder, Mixture]:
    """The model and the data of a recipe, ready to train where `dtype` is float32.

    Raises DataError for what a teacher cannot teach it, RecipeError for an adapter that cannot hold what is trained.
    """
    teachers = teachers_of(recipe.data)
    batch_size, seed = recipe.training.batch_size, recipe.training.seed
    mixture = Mixture.open(recipe.data, batch_size=batch_size, seed=seed, taught=teachers)
    texts = mixture.texts(_TOKENIZER_TEXTS) if recipe.model.base == FRESH else ()
    embedder = load_base(recipe.model, texts, seed, dtype)
    check_sizes(recipe.data, teachers, embedder)
    _check_adapter(recipe, embedder)
    return embedder, mixture


def _check_adapter(recipe: Recipe, embedder: Embedder) -> None:
    """Raise RecipeError where an adapter is asked for that would not be all that was trained, or lack its base."""
    model: Any = embedder.backbone
    if recipe.output.save != "adapter":
        return
    if pick_tuning(model, recipe.training) == "full":
        raise RecipeError(
            f"output.save is 'adapter' and training.tuning {recipe.training.tuning!r}, here all weights, which no "
            f"adapter holds; set save = 'merged', or tuning = 'lora'"
        )
    if recipe.model.base == FRESH:
        raise RecipeError("output.save is 'adapter' and model.base 'fresh', which is kept nowhere; set save = 'merged'")


def _save(trainer: Trainer, recipe: Recipe, history: History) -> None:
    """Write the trained model; beside the weights its recipe, what it was trained on, and a figure."""
    embedder = _whole(trainer, recipe) if trainer.stepper.sharded else trainer.embedder
    if not trainer.stepper.world.leads:
        return
    datasets = trainer.mixture.describe()
    found = {
        "tuning": pick_tuning(trainer.model, recipe.training),
        "num_steps": len(history.steps),
        "num_trainable": history.num_trainable,
        "num_truncated": history.num_truncated,
        "datasets": [asdict(dataset) for dataset in datasets],
    }
    embedder.save(
        recipe.output.folder,
        merged=_merges(trainer, recipe),
        base=recipe.model.base,
        dtype=_saved_dtype(recipe),
        notes=notes(recipe, history, datasets),
        results=results(history),
        extra_files={
            RECIPE_FILE: recipe.to_toml(),
            TRAINING_FILE: json.dumps(found, indent=2) + "\n",
            FIGURE: figure(history),
        },
    )


def _merges(trainer: Trainer, recipe: Recipe) -> bool:
    """Whether all weights are written."""
    if recipe.output.save != "auto":
        return recipe.output.save == "merged"
    return pick_tuning(trainer.model, recipe.training) != "lora" or not is_large(trainer.model)


def _saved_dtype(recipe: Recipe) -> torch.dtype:
    """The precision to save in; float32 for a base whose configuration says none."""
    name, base = recipe.output.dtype, recipe.model.base
    if name != "base":
        return getattr(torch, name)
    return (None if base == FRESH else stored_precision(base)) or torch.float32


def _whole(trainer: Trainer, recipe: Recipe) -> Embedder:
    """The trained model with all its weights on the leading process; the others keep what they have."""
    state = gather(trainer.model)
    if not trainer.stepper.world.leads:
        return trainer.embedder
    # of "fresh" the texts decide the tokens
    fresh = open_recipe(recipe)[0] if recipe.model.base == FRESH else load_base(recipe.model)
    training = recipe.training
    model: Any = fresh.backbone
    apply_tuning(model, pick_tuning(model, training), lora_rank=training.lora_rank, lora_alpha=training.lora_alpha)
    model.load_state_dict(state)
    fresh.weights_changed()
    return fresh
