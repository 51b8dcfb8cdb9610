"""Trackers by name: what they are given, and what is said where one is missing."""

import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from udever.errors import MissingExtra
from udever.pairs.files import write_pairs
from udever.pairs.schema import Pair
from udever.training import train
from udever.training.recipe import Recipe
from udever.training.trackers import opened


@pytest.fixture
def recipe(base, tools, tmp_path):
    held_out = [Pair(p.anchor, p.positive, split="held_out") for p in tools.pairs[40:]]
    write_pairs([*tools.pairs[:40], *held_out], tmp_path / "pairs.parquet")
    return Recipe.model_validate(
        {
            "model": {"base": str(base), "max_length": 32},
            "data": {"pairs": [str(tmp_path / "pairs.parquet")]},
            "training": {"tuning": "full", "batch_size": 16, "max_steps": 2, "precision": "float32"},
            "output": {"folder": str(tmp_path / "model")},
        }
    )


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_hands_steps_and_scores_to_a_tracker(name, recipe, tmp_path, monkeypatch):
    calls = []
    stand_in = SimpleNamespace(
        init=lambda **given: calls.append(("init", given)),
        log=lambda values, step: calls.append(("log", step, values)),
        finish=lambda: calls.append(("finish",)),
        __spec__=ModuleSpec(name, None),  # peft looks whether it is there
    )
    monkeypatch.setitem(sys.modules, name, stand_in)
    asked = recipe.model_copy(update={"watch": recipe.watch.model_copy(update={"trackers": [name]})})
    history = train(asked, show_progress=False)
    (first, given), *logged, last = calls
    assert (first, last) == ("init", ("finish",))
    assert given["project"] == "udever"
    assert given["name"] == "model"
    assert given["config"]["training"]["max_steps"] == recipe.training.max_steps
    steps = [(step, values["train/loss"]) for _, step, values in logged if "train/loss" in values]
    assert steps == [(step.number, step.loss) for step in history.steps]
    scores = [(step, values) for _, step, values in logged if "train/loss" not in values]
    assert scores == [(step, {f"scores/{k}": v for k, v in found.items()}) for step, found in history.scores]


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match="pip install wandb"), opened(["wandb"], tmp_path, "run", {}):
        pass


def test_a_name_that_is_no_tracker_is_refused(recipe):
    values = recipe.model_dump(mode="json")
    values["watch"]["trackers"] = ["other"]
    with pytest.raises(ValidationError, match="tensorboard"):
        Recipe.model_validate(values)
