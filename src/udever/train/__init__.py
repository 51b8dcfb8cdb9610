"""Finetuning a decoder into an embedder."""

from udever.train.fresh import FRESH, SEEDLING, make_base
from udever.train.loop import History, Keeping, Step, Watch, finetune
from udever.train.plan import Plan, plan
from udever.train.recipe import run_recipe

__all__ = [
    "FRESH",
    "SEEDLING",
    "History",
    "Keeping",
    "Plan",
    "Step",
    "Watch",
    "finetune",
    "make_base",
    "plan",
    "run_recipe",
]
