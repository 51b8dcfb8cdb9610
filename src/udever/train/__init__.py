"""Finetuning a decoder into an embedder."""

from udever.train.fresh import FRESH, make_base
from udever.train.loop import History, Step, finetune
from udever.train.recipe import run_recipe

__all__ = ["FRESH", "History", "Step", "finetune", "make_base", "run_recipe"]
