"""Finetuning a decoder into an embedder, as a recipe says."""

from udever.training.fresh import FRESH, SEEDLING, make_base
from udever.training.loop import History, Keeping, Step, Watch, finetune
from udever.training.plan import Plan, plan
from udever.training.run import run_recipe

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
