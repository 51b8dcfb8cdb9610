"""What `adapt` is asked for."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from udever.errors import RecipeError
from udever.habits import told
from udever.loading import stored_precision
from udever.model.weights import parameters_beside_tables
from udever.packaged import PACKAGED
from udever.pairs.gathering import Gathering
from udever.pairs.mining import STANDARD_LIBRARY_EXCLUDE, USUAL_KINDS, standard_library
from udever.pairs.split import ChooseFrom
from udever.training import FRESH, LARGE, SEEDLING, TrainingSettings
from udever.training.recipe import training_settings

_SMALL = {"tuning": "full", "batch_size": 128, "schedule": "cosine"}
_SUITED = {
    FRESH: TrainingSettings(**_SMALL, epochs=4.0, learning_rate=3e-3, warmup=0.05),
    SEEDLING: TrainingSettings(**_SMALL, epochs=4.0, learning_rate=2e-3, warmup=0.1),
}
_LARGE = TrainingSettings(
    tuning="lora",
    batch_size=64,
    epochs=1.0,
    max_steps=24,
    max_length=128,
    learning_rate=5e-4,
    schedule="cosine",
    warmup=0.1,
)
"""For a decoder that is trained by LoRA: some 1,500 pairs, minutes on a processor."""
_OTHER = TrainingSettings(
    batch_size=64, epochs=4.0, max_steps=60, max_length=128, learning_rate=2e-4, schedule="cosine", warmup=0.1
)
"""Measured on all-MiniLM-L6-v2 alone (dev/LOG.md), all of whose weights are trained: minutes on a processor."""


def default_training(base: str) -> TrainingSettings:
    """The settings that suit a base: one of the small ones by its name, a large one, any other."""
    return _SUITED.get(base) or (_LARGE if is_large(base) else _OTHER)


def is_large(base: str) -> bool:
    """Whether a base here has 50 million parameters and more outside its embedding table; GGUF files count as such."""
    if base in PACKAGED or base.lower().endswith(".gguf"):
        return True
    folder = Path(base)
    if (folder / "adapter_config.json").is_file():
        return True
    return folder.is_dir() and parameters_beside_tables(folder) >= LARGE


def times_suited(base: str, settings: "AdaptSettings") -> int:
    """How often an arrangement is trained where nobody says.

    The seedling twice, since the mean of two trainings' weights finds more than either (dev/LOG.md); once where the
    training was given, and other bases, which take longer and of which that was not measured.
    """
    return 2 if base == SEEDLING and settings.training is None else 1


def check_base(base: str, settings: "AdaptSettings") -> None:
    """Raise RecipeError for several trainings of a base that each of them draws anew: their weights have no mean.

    Raises ModelError where the base is no model; of one on a hub that is known when it is downloaded.
    """
    if base != FRESH:
        stored_precision(base)
    elif settings.trainings is not None and settings.trainings > 1:
        raise RecipeError(
            f"trainings is {settings.trainings} and the base {FRESH}, whose weights each training draws anew, so that "
            f"their mean is none; expected 1"
        )


def scored_in(base: str) -> str:
    """The precision that a base and what becomes of it are compared in: of a large one as it is loaded for use."""
    return "auto" if is_large(base) else "float32"


def texts_to_choose(base: str, settings: "AdaptSettings") -> int:
    """How many texts development questions search besides their answers: fewer where the base is large."""
    if settings.max_to_choose is not None:
        return settings.max_to_choose
    return _TEXTS_LARGE if is_large(base) else _TEXTS


_TEXTS, _TEXTS_LARGE = 4000, 600
_LEAST = {
    "max_queries": 1,
    "max_studied": 0,
    "min_seen": 0,
    "max_seen": 1,
    "max_to_choose": 0,
    "minutes": 0,
    "trainings": 1,
    "negatives": 0,
    "max_length": 4,
}
_TO_CHOOSE = {"train": 0.1, "held_out": 0.4}


@dataclass(frozen=True)
class AdaptSettings:
    """What `adapt` mines, how it trains and what it scores.

    `kinds`, `exclude`, `language`, `held_out`, `development`, `choose_from` and, for tables of pairs, `held_out_by`,
    `columns` and `skip_empty` are those of `udever.pairs.gathering.Gathering`; `development` None is 0.1 of the
    training files, or 0.4 of the held-out ones where `choose_from` is "held_out".

    * `max_queries`: most held-out queries that are scored.
    * `max_studied`: most pairs of the kinds that are only trained on and never asked; a random sample is taken.
    * `min_seen`: rows in a hundred steps of 128. With fewer the number of passes is raised, at most to twice as many: a
      small repository takes more of them than a large one (dev/LOG.md).
    * `max_seen`: most rows that training sees; the number of passes is lowered to fit, but not below one.
    * `max_to_choose`: how many texts development questions search besides their answers, embedded by several models
      (None: `texts_to_choose`).
    * `training`: how to train. None takes what suits the base, and tries other arrangements within `minutes`.
    * `minutes`: about how long trying may take (None: five times as long as the mining).
    * `trainings`: how often each arrangement is trained, from different seeds; the mean of the weights is kept (None:
      `times_suited`).
    * `negatives`: hard negatives for each pair; they cost as much time again and brought nothing (dev/LOG.md).
    * `questions`: answered at the end from all that was mined.

    Raises RecipeError for a number below its least value or without end, and for a seed that training would not take.
    """

    kinds: Collection[str] = USUAL_KINDS
    exclude: Sequence[str] = ()
    language: str | None = None
    held_out: float = 0.1
    development: float | None = None
    choose_from: ChooseFrom = "train"
    held_out_by: str = "text"
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_empty: bool = False
    max_queries: int = 2000
    max_studied: int = 20_000
    min_seen: int = 12_800
    max_seen: int | None = 60_000
    max_to_choose: int | None = None
    training: TrainingSettings | None = None
    minutes: float | None = None
    trainings: int | None = None
    negatives: int = 0
    max_length: int = 300
    questions: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:  # NaN too
                raise RecipeError(f"{name} is {value}; expected at least {least}")
            if value == math.inf:
                raise RecipeError(f"{name} is inf; expected a finite number")
        training_settings(seed=self.seed)

    @property
    def gathering(self) -> Gathering:
        """What is gathered."""
        asked = {part.name: getattr(self, part.name) for part in fields(Gathering)}
        share = _TO_CHOOSE.get(self.choose_from, 0.0) if self.development is None else self.development
        return Gathering(**{**asked, "development": share})


AdaptSettings.__init__ = told({})(AdaptSettings.__init__)
DEFAULTS = AdaptSettings()

DEMO = AdaptSettings(
    kinds=("code", "names", "comments", "messages"),
    minutes=0,
    trainings=1,
    max_seen=30_000,
    choose_from="held_out",
    exclude=STANDARD_LIBRARY_EXCLUDE,
    language="eng-Latn",
    questions=(
        "how do I copy a whole directory tree",
        "parse a date written in ISO format",
        "split a shell command line into its arguments",
    ),
)
"""For the standard library of the interpreter that runs (`udever.pairs.mining.standard_library`). The seedling has
learned from the files that are not held out: their questions would always choose it."""

_DEMO_LARGE = replace(DEMO, held_out=0.2, development=0.15, choose_from="train")
_DEMO_MODULES = (
    "argparse", "calendar", "configparser", "csv", "datetime", "_pydatetime", "difflib", "fileinput", "glob", "json",
    "pathlib", "random", "shlex", "shutil", "statistics", "string", "tarfile", "tempfile", "textwrap", "urllib",
    "zipfile",
)  # fmt: skip
"""What of the standard library a large model reads in a quarter of an hour: files, texts, dates."""


def demo_of(base: str) -> tuple[list[Path], AdaptSettings]:
    """What the demo reads, and how: all of the standard library, or a part of it for a large base."""
    library = standard_library()
    if not is_large(base):
        return [library], DEMO
    places = [place for name in _DEMO_MODULES for place in (library / name, library / f"{name}.py") if place.exists()]
    return places, _DEMO_LARGE
