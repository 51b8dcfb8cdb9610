"""`udever train`: a recipe from its TOML to a saved model."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from udever.embedder import Embedder
from udever.errors import OutputError
from udever.loading import resolve
from udever.model.artefact import CONTRACT_FILE
from udever.model.markers import with_markers
from udever.pairs.mixture import DatasetSummary, Mixture
from udever.storage import check_replaceable
from udever.training import checkpoint, sharding
from udever.training.checkpoint import checkpoints
from udever.training.claim import claimed
from udever.training.distributed import World
from udever.training.fresh import FRESH, make_base
from udever.training.log import FIGURE, LOG_FILE, Log, draw
from udever.training.loop import History, Keeping, Watch, finetune, pick_tuning
from udever.training.recipe import ModelSettings, Recipe

RECIPE_FILE, TRAINING_FILE = "recipe.toml", "training.json"
_TOKENIZER_TEXTS = 200_000


def load_base(settings: ModelSettings, texts: Iterable[str] = (), seed: int = 0) -> Embedder:
    """The backbone in float32, under the contract the recipe asks for.

    The base named `FRESH` is made on the spot: a tokenizer trained on `texts`, random weights. A base that is an
    embedder already keeps its contract, but for what the recipe names; its markers too where they are "auto".
    """
    if settings.base == FRESH:
        with tempfile.TemporaryDirectory() as scratch:
            make_base(list(texts), Path(scratch), seed=seed)
            embedder = load_base(settings.model_copy(update={"base": scratch}))
        embedder.name = FRESH
        return embedder
    own = (resolve(settings.base) / CONTRACT_FILE).is_file()
    names = {"pooling", "attention", "max_length"}
    asked = names & settings.model_fields_set if own or settings.markers == "keep" else names
    changes = {name: getattr(settings, name) for name in asked}
    embedder = Embedder.load(settings.base, dtype="float32", **changes)
    if settings.markers == "keep" or (own and settings.markers == "auto"):
        return embedder
    model = embedder.backbone
    table = getattr(model, "word_embeddings", None)
    if table is None:
        table = model.model.get_input_embeddings()  # pyright: ignore[reportAttributeAccessIssue]
    contract = with_markers(embedder.contract, settings.markers, embedder.tokenizer.hf, table.weight.detach())
    embedder.use_contract(contract)
    return embedder


def open_recipe(recipe: Recipe) -> tuple[Embedder, Mixture]:
    """The model and the data of a recipe, ready to train."""
    mixture = Mixture.open(recipe.data, batch_size=recipe.training.batch_size, seed=recipe.training.seed)
    texts = mixture.texts(_TOKENIZER_TEXTS) if recipe.model.base == FRESH else ()
    return load_base(recipe.model, texts, recipe.training.seed), mixture


def checkpoint_folder(recipe: Recipe) -> Path:
    """Where the recipe's checkpoints and log go."""
    output = Path(recipe.output.folder)
    return (
        Path(recipe.watch.checkpoints) if recipe.watch.checkpoints else output.with_name(f"{output.name}-checkpoints")
    )


@dataclass(frozen=True)
class Trained:
    """A run of a recipe, ended or (`history.stopped`) left at a checkpoint."""

    embedder: Embedder
    mixture: Mixture
    history: History
    recipe: Recipe
    world: World = field(default_factory=World)

    def save(self, folder: Path, recipe: Recipe | None = None) -> None:
        """Write the model, its card and `recipe` (default: the one that ran). Every process calls this."""
        assert not self.history.stopped
        _finish(self.embedder, recipe or self.recipe, self.history, self.mixture, self.world, folder)
        self.world.wait()


def run_recipe(
    recipe: Recipe,
    *,
    resume: bool = False,
    restart: bool = False,
    allow_changes: bool = False,
    evaluate: Callable[[Embedder], dict[str, float]] | None = None,
    show_progress: bool = True,
) -> History:
    """Train as `recipe` says and write the model, its card and the resolved recipe into the output folder.

    `resume` goes on from the last checkpoint (from the beginning where there is none), `restart` deletes what
    there is; raises OutputError for neither where a run was begun, for a changed recipe or data without
    `allow_changes`, and while another process runs there. Raises before any work where the output folder holds
    something that is not a model. `evaluate` scores the model on the way. Every process torchrun started calls this.
    """
    folder = Path(recipe.output.folder)
    given = [recipe.model.base, *(path for dataset in recipe.data.all_datasets for path in dataset.paths)]
    check_replaceable(folder, "model", given)
    kept = checkpoint_folder(recipe)
    check_begun(kept, resume=resume, restart=restart)
    opened = open_recipe(recipe)
    with claimed(kept, folder, enabled=leads_alone()):
        start = Start(resume=resume, restart=restart, allow_changes=allow_changes)
        trained = fit_recipe(recipe, opened, start, evaluate=evaluate, show_progress=show_progress)
        if not trained.history.stopped:
            trained.save(folder)
    return trained.history


@dataclass(frozen=True)
class Start:
    """How a run begins where another was begun before."""

    resume: bool = False
    restart: bool = False
    allow_changes: bool = False


def fit_recipe(
    recipe: Recipe,
    opened: tuple[Embedder, Mixture],
    start: Start,
    *,
    evaluate: Callable[[Embedder], dict[str, float]] | None = None,
    show_progress: bool = True,
) -> Trained:
    """Train what `open_recipe` gave, with the recipe's checkpoints and log; nothing is written to the output folder.

    The caller has `claimed` the folders.
    """
    embedder, mixture = opened
    kept, watch = checkpoint_folder(recipe), recipe.watch
    world = World.from_environment(embedder.device)
    if start.restart and world.leads:
        forget(kept)
    world.wait()
    # Watching changes no weight: other settings of it are no other run.
    same = recipe.model_dump(mode="json", exclude={"watch": True, "output": True, "training": {"memory_gb"}})
    keeping = Keeping(kept, same, watch.checkpoint_every, watch.keep, start.resume, start.allow_changes)
    with Log.open(kept, tensorboard=watch.tensorboard, enabled=world.leads) as log:
        told = Watch(log.start, log.step, log.scores, evaluate, watch.evaluate_every)
        history = finetune(
            embedder, mixture, recipe.training, recipe.loss, keeping=keeping, watch=told, show_progress=show_progress
        )
        history = replace(history, steps=log.steps or history.steps, scores=log.all_scores or history.scores)
    world.wait()
    return Trained(embedder, mixture, history, recipe, world)


def leads_alone() -> bool:
    """Whether this is the process that claims the folders for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def forget(kept: Path) -> None:
    """Delete the checkpoints and the log of a run, and nothing else that may lie in its folder."""
    checkpoint.forget(kept)
    (kept / LOG_FILE).unlink(missing_ok=True)


def check_begun(folder: Path, *, resume: bool, restart: bool) -> None:
    """Raise OutputError where `folder` holds checkpoints and nobody said what becomes of them."""
    if resume and restart:
        raise OutputError("both --resume and --restart were given; give one of them")
    if checkpoints(folder) and not (resume or restart):
        raise OutputError(
            f"{folder} holds the checkpoints of an earlier run; go on with --resume, or begin anew with --restart"
        )


def _finish(embedder: Embedder, recipe: Recipe, history: History, mixture: Mixture, world: World, folder: Path) -> None:
    model: Any = embedder.backbone
    if sharding.is_sharded(model):
        embedder = _whole(embedder, recipe, world)
    if world.leads:
        save_trained(embedder, recipe, history, mixture, folder)


def _whole(embedder: Embedder, recipe: Recipe, world: World) -> Embedder:
    """The trained model with all its weights on the leading process; the others keep what they have."""
    from udever.model.adapters import apply_tuning

    state = sharding.gather(embedder.backbone)
    if not world.leads:
        return embedder
    fresh = load_base(recipe.model)
    training = recipe.training
    model: Any = fresh.backbone
    apply_tuning(model, pick_tuning(model, training), lora_rank=training.lora_rank, lora_alpha=training.lora_alpha)
    model.load_state_dict(state)
    fresh.weights_changed()
    return fresh


def save_trained(embedder: Embedder, recipe: Recipe, history: History, mixture: Mixture, folder: Path) -> None:
    """Write the trained model into `folder`; beside the weights its recipe, what it was trained on, and a figure."""
    datasets = mixture.describe()
    embedder.save(
        folder,
        merged=recipe.output.save == "merged",
        base=recipe.model.base,
        notes=_notes(recipe, history, datasets),
        extra_files={
            RECIPE_FILE: recipe.to_toml(),
            TRAINING_FILE: json.dumps(_trained(embedder, recipe, history, datasets), indent=2) + "\n",
            FIGURE: draw(history),
        },
    )


def _trained(
    embedder: Embedder, recipe: Recipe, history: History, datasets: Sequence[DatasetSummary]
) -> dict[str, Any]:
    """What the recipe leaves open and training found out: how it tuned, and the kinds and languages of its pairs."""
    model: Any = embedder.backbone
    return {
        "tuning": pick_tuning(model, recipe.training),
        "num_steps": len(history.steps),
        "num_trainable": history.num_trainable,
        "num_truncated": history.num_truncated,
        "datasets": [asdict(dataset) for dataset in datasets],
    }


def _notes(recipe: Recipe, history: History, datasets: Sequence[DatasetSummary]) -> str:
    last = history.steps[-20:]
    loss = sum(step.loss for step in last) / max(1, len(last))
    data = "".join(
        f"| {d.name} | {'' if d.num_pairs is None else format(d.num_pairs, ',')} | {d.share:.3f} | "
        f"{', '.join(d.languages) or '-'} |\n"
        for d in datasets
    )
    scores = "".join(
        f"| {step} | {', '.join(f'{name} {value:.4f}' for name, value in found.items())} |\n"
        for step, found in history.scores
    )
    table = f"\n| step | held-out rows |\n|---|---|\n{scores}" if scores else ""
    return f"""
## Training

{len(history.steps):,} steps of {recipe.training.batch_size}, {history.num_trainable:,} parameters moved; mean loss of
the last {len(last)} steps {loss:.3f}; {history.num_truncated:,} texts were cut at {recipe.model.max_length} tokens.
The resolved recipe is in `{RECIPE_FILE}`.

| data | pairs | share | languages |
|---|---|---|---|
{data}{table}
![loss and scores]({FIGURE})
"""
