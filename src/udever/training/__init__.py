"""Finetuning a decoder into an embedder, as a recipe says."""

from udever.training.fresh import FRESH, SEEDLING
from udever.training.plan import plan
from udever.training.recipe import ModelSettings, OutputSettings, Recipe, TrainingSettings, WatchSettings
from udever.training.run import train
from udever.training.tuning import LARGE

__all__ = [
    "FRESH",
    "LARGE",
    "SEEDLING",
    "ModelSettings",
    "OutputSettings",
    "Recipe",
    "TrainingSettings",
    "WatchSettings",
    "plan",
    "train",
]
