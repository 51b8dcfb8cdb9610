"""Finetuning a decoder into an embedder, as a recipe says."""

from udever.pairs.settings import DatasetSettings, DataSettings
from udever.training.fresh import FRESH, SEEDLING, make_base
from udever.training.log import History, Step
from udever.training.objectives import LossSettings
from udever.training.plan import Plan, plan
from udever.training.recipe import (
    ModelSettings,
    OutputSettings,
    Recipe,
    TrainingSettings,
    WatchSettings,
)
from udever.training.run import load_base, train
from udever.training.tuning import LARGE

__all__ = [
    "FRESH",
    "LARGE",
    "SEEDLING",
    "DataSettings",
    "DatasetSettings",
    "History",
    "LossSettings",
    "ModelSettings",
    "OutputSettings",
    "Plan",
    "Recipe",
    "Step",
    "TrainingSettings",
    "WatchSettings",
    "load_base",
    "make_base",
    "plan",
    "train",
]
