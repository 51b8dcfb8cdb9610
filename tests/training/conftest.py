"""What the tests of training share: a tiny base, pairs to learn from, settings, and the loss of one batch."""

from types import SimpleNamespace

import pytest
import torch

from udever.pairs.mixture import Mixture
from udever.pairs.schema import Pair
from udever.training.distributed import World
from udever.training.fresh import make_base
from udever.training.grad_cache import Stepper
from udever.training.loop import Trainer
from udever.training.memory import Budget
from udever.training.objectives import LossSettings
from udever.training.recipe import ModelSettings, TrainingSettings
from udever.training.run import load_base

VERBS = ["copy", "parse", "split", "read", "sort", "hash", "open", "join"]
NOUNS = ["tree", "date", "shell", "lines", "keys", "file", "socket", "path"]
PAIRS = [Pair(f"{a} the {b}", f"def {a}_{b}(): return {b}.{a}()") for a in VERBS for b in NOUNS]


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh") / "base"
    texts = [text for pair in PAIRS for text in (pair.anchor, pair.positive)]
    make_base(texts, folder, vocab_size=400, hidden_size=32, num_heads=2)
    return folder


@pytest.fixture
def embedder(base):
    return load_base(ModelSettings(base=str(base), max_length=32))


def settings(**changes):
    given = {"tuning": "full", "batch_size": 16, "learning_rate": 3e-3, "precision": "float32", "epochs": 3.0}
    return TrainingSettings(**{**given, **changes})


def mixture(pairs=PAIRS, batch_size=16, seed=0):
    return Mixture.of_pairs(pairs, batch_size, seed)


def gradients(embedder, batch, budget=None, loss=None, **changes):
    """Loss of a batch and its gradients by parameter name, computed with this budget of tokens."""
    model = embedder.backbone
    model.zero_grad(set_to_none=True)
    stepper = Stepper(embedder, settings(**changes), loss or LossSettings(), budget or Budget(10**6, 10**6), World())
    outcome = stepper.accumulate(batch)
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return outcome, found


def finetune(embedder, data, given):
    """A whole run in memory, without checkpoints."""
    return Trainer.prepare(embedder, data, given, LossSettings()).run()


def assert_close(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.fixture(scope="session")
def tools():
    return SimpleNamespace(
        settings=settings,
        mixture=mixture,
        gradients=gradients,
        finetune=finetune,
        assert_close=assert_close,
        pairs=PAIRS,
    )
