"""What `adapt` writes where it does not keep the trained weights as they are."""

import io
import json

import pytest
import torch
from rich.console import Console

from udever import Embedder
from udever.adaptation import AdaptSettings, adapt, scores, settings
from udever.adaptation.choice import Choice
from udever.model.backbone import pick_dtype
from udever.search.words_weight import read_words_weight
from udever.training import TrainingSettings

TRAINING = TrainingSettings(tuning="full", batch_size=8, max_steps=3, learning_rate=3e-3, precision="float32")


@pytest.mark.parametrize("large", [1000, 10**9])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_base_is_given_back_or_what_lies_between(share, large, project, base, tmp_path, monkeypatch):
    trained = {}
    monkeypatch.setattr(settings, "LARGE", large)

    def chosen(start, end, task, *_):
        assert task is None  # too few questions for any to choose by
        (end,) = end
        assert (end.dtype is torch.float32) == (large > 1000 or pick_dtype("auto", end.device) is torch.float32)
        whole = Embedder.load(end.name, dtype="float32")
        trained.update({name: tensor.clone() for name, tensor in whole.backbone.state_dict().items()})
        return Choice(share, 0.05, 0.1, {(0, 0.0): 0.5, (0, share): 0.5}, 300)

    monkeypatch.setattr(scores, "choose", chosen)
    said = io.StringIO()
    given = AdaptSettings(training=TRAINING, held_out=0.25, max_length=48)
    table = adapt([project], tmp_path / "out", given, base=str(base), console=Console(file=said, width=200))
    assert table is not None and ("the base as it was" in said.getvalue()) == (share == 0)
    start = Embedder.load(base, dtype="float32").backbone.state_dict()
    end = Embedder.load(tmp_path / "out" / "model", dtype="float32").backbone.state_dict()
    for name, tensor in end.items():
        assert torch.allclose(tensor, start[name] * (1 - share) + trained[name] * share, atol=1e-6), name
    assert (table.rows["adapted"].ranks.tolist() == table.rows["base"].ranks.tolist()) or share
    assert read_words_weight(str(tmp_path / "out" / "model")) == 0.1
    files = {path.name for path in (tmp_path / "out" / "model").iterdir()}
    assert {"recipe.toml", "training.json", "training.svg", "search.json"} <= files
    assert json.loads((tmp_path / "out" / "model" / "training.json").read_text())["num_steps"] == 3


def test_a_base_in_few_bits_is_given_back_exactly(project, tmp_path, monkeypatch):
    """The table of the seedling is in four bits on the disk, whose numbers bfloat16 does not hold."""
    monkeypatch.setattr(scores, "choose", lambda *_: Choice(0.0, 0.05, 0.1, {(0, 0.0): 0.5, (0, 1.0): 0.5}, 300))
    given = AdaptSettings(training=TRAINING, held_out=0.25, max_length=48)
    table = adapt([project], tmp_path / "out", given, base="seedling", console=Console(file=io.StringIO()))
    assert table is not None and table.sentences()[0].endswith("every question has the same score in both.")
    start = Embedder.load("seedling", dtype="float32").backbone.state_dict()
    end = Embedder.load(tmp_path / "out" / "model", dtype="float32").backbone.state_dict()
    assert all(torch.equal(end[name], start[name]) for name in start)


@pytest.mark.parametrize(("large", "asked"), [(1000, "auto"), (10**9, "float32")])
def test_a_large_base_is_compared_in_the_precision_it_is_used_in(large, asked, project, base, tmp_path, monkeypatch):
    seen, texts = [], []

    def choose(start, end, task, scored, *_):
        (end,) = end
        assert scored.mteb_model_meta.name.endswith("/base")
        seen.extend([start.dtype, end.dtype])
        return Choice(0.5, 0.05, 0.1, {(0, 0.0): 0.4, (0, 0.5): 0.5}, 300)

    tasks_of = scores.tasks_of
    monkeypatch.setattr(scores, "choose", choose)
    monkeypatch.setattr(scores, "tasks_of", lambda *given: texts.append(given[-1]) or tasks_of(*given))
    monkeypatch.setattr(settings, "LARGE", large)
    monkeypatch.setattr(settings, "_TEXTS_LARGE", 6)
    given = AdaptSettings(training=TRAINING, held_out=0.25, max_length=48)
    adapt([project], tmp_path / "out", given, base=str(base))
    assert seen == [pick_dtype(asked, torch.device("cpu"))] * 2
    assert texts[0] == (6 if asked == "auto" else 4000)
    start = Embedder.load(base, dtype="float32").encode(["a text"])
    assert start @ Embedder.load(tmp_path / "out" / "model", dtype="float32").encode(["a text"]).T < 0.9999
