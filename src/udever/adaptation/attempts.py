"""What `adapt` tries: arrangements of what is learned from and how, trained one after another within a time."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from udever.adaptation.folder import ATTEMPTS, MODEL, PAIRS, TRIED, data_of, write_gathered
from udever.adaptation.settings import AdaptSettings, default_training, times_suited
from udever.allocator import give_back_free
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.mining import ASKED, Mined
from udever.pairs.negatives import Options, mine_negatives
from udever.progress import duration
from udever.storage import atomic_file
from udever.training import FRESH, ModelSettings, OutputSettings, Recipe, TrainingSettings, WatchSettings, train
from udever.training.log import History
from udever.training.run import load_base

_CHECKPOINT_EVERY = 100
_BUDGET = 5.0
"""How many times as long as the mining the training may take where nobody says."""
_NEGATIVES = "negatives.parquet"


@dataclass(frozen=True)
class Arrangement:
    """Kinds of pairs, hard negatives for each pair, and the training, under a name.

    It is trained `times` times, each from the next seed, and its model has the mean of the weights.
    """

    name: str
    kinds: Collection[str]
    negatives: int
    training: TrainingSettings
    times: int = 1

    def cost(self, mined: Mined, settings: AdaptSettings) -> float:
        """About how much it computes, in texts."""
        train_pairs = sum(pair.split == "train" for pair in _only(mined, self.kinds).pairs)
        seen = train_pairs * _passes(self.training, train_pairs, settings)
        if self.training.max_steps is not None:
            seen = min(seen, self.training.max_steps * self.training.batch_size)
        return seen * (2 + self.negatives) * self.times


@dataclass(frozen=True)
class Attempt:
    """An arrangement that was trained: its pairs, its recipes, a training each, and what happened."""

    arrangement: Arrangement
    mined: Mined
    recipes: Sequence[Recipe]
    histories: Sequence[History]

    @property
    def name(self) -> str:
        """The arrangement's name, and how many trainings it is the mean of."""
        times = len(self.recipes)
        return self.arrangement.name if times == 1 else f"{self.arrangement.name} (mean of {times} trainings)"

    @property
    def folders(self) -> list[str]:
        """The model folder of every training."""
        return [recipe.output.folder for recipe in self.recipes]

    @property
    def stopped(self) -> bool:
        """Whether a signal stopped it."""
        return self.histories[-1].stopped

    @property
    def seconds(self) -> float:
        """How long its steps took."""
        return sum(step.seconds for history in self.histories for step in history.steps)


def arrangements(settings: AdaptSettings, base: str, mined: Mined) -> list[Arrangement]:
    """What is worth a try, the surest first.

    One alone where the training was given, or where there are no development questions to choose by.
    """
    training = (settings.training or default_training(base)).model_copy(update={"seed": settings.seed})
    times = times_suited(base, settings) if settings.trainings is None else settings.trainings
    first = Arrangement("as it stands", settings.kinds, settings.negatives, training, times)
    if settings.training is not None or not any(pair.split == "development" for pair in mined.pairs):
        return [first]
    steps = None if training.max_steps is None else 2 * training.max_steps
    longer = training.model_copy(update={"epochs": 2 * training.epochs, "max_steps": steps})
    slower = training.model_copy(update={"learning_rate": training.learning_rate / 2})
    fewer, has_more = (*ASKED, "names"), {*mined.kinds} - {*ASKED, "names"}
    return [
        first,
        *([replace(first, name="of questions and names alone", kinds=fewer)] if has_more else []),
        replace(first, name="in twice the passes", training=longer),
        replace(first, name="at half the rate", training=slower),
    ]


def budget_s(settings: AdaptSettings, mining_s: float) -> float:
    """How long all training may take."""
    return _BUDGET * mining_s if settings.minutes is None else 60 * settings.minutes


def fitting(
    others: Sequence[Arrangement], seconds: Sequence[float], first_s: float, budget: float
) -> list[Arrangement]:
    """Of the arrangements behind the first, which took `first_s`, those that the time suffices for, in turn."""
    left = budget - first_s
    found: list[Arrangement] = []
    for arrangement, needed in zip(others, seconds, strict=True):
        if needed <= left:
            found.append(arrangement)
            left -= needed
    return found


def seconds_of(tried: Sequence[Arrangement], first_s: float, mined: Mined, settings: AdaptSettings) -> list[float]:
    """About how long each of the arrangements takes, if the first of them takes `first_s`."""
    costs = [arrangement.cost(mined, settings) for arrangement in tried]
    return [first_s * cost / costs[0] for cost in costs]


def train_all(
    mined: Mined, settings: AdaptSettings, base: str, kept: Path, mining_s: float, *, resume: bool, console: Console
) -> list[Attempt] | None:
    """Train the first arrangement, and behind it those that there is time for; None where a signal stopped it.

    Which these are is written down once it is known, so that a resumed run tries the same.
    """
    first, *others = arrangements(settings, base, mined)
    attempt = _attempt(first, 1, mined, settings, base, kept, resume=resume)
    if attempt.stopped:
        return None
    attempts, planned = [attempt], kept / TRIED
    if not planned.is_file():
        needed = seconds_of([first, *others], attempt.seconds, mined, settings)[1:]
        names = [one.name for one in fitting(others, needed, attempt.seconds, budget_s(settings, mining_s))]
        with atomic_file(planned) as temporary:
            temporary.write_text(json.dumps(names), encoding="utf-8")
    names = json.loads(planned.read_text(encoding="utf-8"))
    for number, other in enumerate(others, 2):
        if other.name not in names:
            continue
        console.print(f"trying {other.name}", highlight=False)
        attempt = _attempt(other, number, mined, settings, base, kept, resume=True)
        if attempt.stopped:
            return None
        attempts.append(attempt)
    left_out, total = len(others) - len(names), budget_s(settings, mining_s)
    if left_out and total:
        said = duration(total)
        console.print(f"{left_out} more would not have been done within {said} (--minutes)", highlight=False)
    return attempts


def _attempt(
    arrangement: Arrangement,
    number: int,
    mined: Mined,
    settings: AdaptSettings,
    base: str,
    kept: Path,
    *,
    resume: bool,
) -> Attempt:
    own = kept / ATTEMPTS / str(number)
    recipe, mined = prepare(arrangement, mined, settings, base, own, kept if number == 1 else own)
    recipes = [recipe, *(_again(recipe, time, own / f"again-{time}") for time in range(1, arrangement.times))]
    histories: list[History] = []
    for recipe in recipes:
        goes_on = resume or recipe is not recipes[0]  # what lay in the others' folders is gone
        histories.append(train(recipe, resume=goes_on, restart=not goes_on))
        give_back_free()
        if histories[-1].stopped:
            break
    return Attempt(arrangement, mined, recipes, histories)


def _again(recipe: Recipe, time: int, folder: Path) -> Recipe:
    """The recipe with the seed `time` further on, which trains in `folder`."""
    update = {
        "training": recipe.training.model_copy(update={"seed": recipe.training.seed + time}),
        "watch": recipe.watch.model_copy(update={"checkpoints": str(folder)}),
        "output": recipe.output.model_copy(update={"folder": str(folder / MODEL)}),
    }
    return recipe.model_copy(update=update)


def prepare(
    arrangement: Arrangement, mined: Mined, settings: AdaptSettings, base: str, own: Path, folder: Path
) -> tuple[Recipe, Mined]:
    """The recipe of an arrangement, which trains in `folder`, and its pairs; both written to the folder `own`."""
    model = ModelSettings(base=base, max_length=settings.max_length)
    own.mkdir(parents=True, exist_ok=True)
    mined = _only(mined, arrangement.kinds)
    if arrangement.negatives:
        mined = _with_negatives(mined, arrangement.negatives, model, own)
    write_gathered(mined, own)
    train_pairs = sum(pair.split == "train" for pair in mined.pairs)
    changed: dict[str, object] = {"epochs": _passes(arrangement.training, train_pairs, settings)}
    if arrangement.training.max_length is not None:
        changed["max_length"] = min(arrangement.training.max_length, settings.max_length)
    recipe = Recipe(
        model=model,
        data=data_of(mined, own),
        training=arrangement.training.model_copy(update=changed),
        watch=WatchSettings(checkpoints=str(folder), checkpoint_every=_CHECKPOINT_EVERY, evaluate_queries=0),
        output=OutputSettings(folder=str(folder / MODEL), save="merged"),
    )
    return recipe, mined


def _passes(training: TrainingSettings, train_pairs: int, settings: AdaptSettings) -> float:
    """The passes of `training`, between what `min_seen` and `max_seen` ask for."""
    passes = max(training.epochs, min(2 * training.epochs, settings.min_seen / train_pairs))
    return passes if settings.max_seen is None else min(passes, max(1.0, settings.max_seen / train_pairs))


def _only(mined: Mined, kinds: Collection[str]) -> Mined:
    """Mined without the pairs of other kinds that are learned from alone."""
    kept = [place for place, kind in enumerate(mined.kinds) if kind in ASKED or kind in kinds]
    pairs, of = [mined.pairs[place] for place in kept], [mined.kinds[place] for place in kept]
    return replace(mined, pairs=pairs, kinds=of)


def _with_negatives(mined: Mined, number: int, model: ModelSettings, own: Path) -> Mined:
    """Mined with hard negatives: what the base takes for the answer, in turns with what stands in the same file.

    A base of random weights takes nothing for anything: there words find them.
    """
    found = own / _NEGATIVES
    if not found.is_file():
        write_pairs(mined.pairs, own / PAIRS)
        embedder = None if model.base == FRESH else load_base(model)
        options = Options(number, mode="words" if embedder is None else "meaning", siblings=embedder is not None)
        mine_negatives(embedder, own / PAIRS, found, options, show_progress=True)
    return replace(mined, pairs=read_pairs(found))
