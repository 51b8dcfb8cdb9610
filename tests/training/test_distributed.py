"""Two and four gloo processes are one: loss, gradients, weights; sharded or not; saved, loaded and resumed."""

import os
import socket
import sys
import traceback
import warnings
from types import SimpleNamespace

import pytest
import torch

from udever import Embedder
from udever.errors import ModelError
from udever.pairs.files import write_pairs
from udever.pairs.mixture import Batch
from udever.pairs.schema import Pair
from udever.pairs.sources import Traits
from udever.training import checkpoint, run, train
from udever.training.distributed import World, gather, shard
from udever.training.grad_cache import Stepper
from udever.training.log import ScoresWarning
from udever.training.memory import Budget
from udever.training.recipe import LossSettings, ModelSettings, Recipe
from udever.training.run import load_base

LOSS = LossSettings(anchor_anchor=True, matryoshka=[32, 8], margin=0.3)


def in_processes(size, work, folder):
    """Run `work(world)` in `size` forked processes joined by gloo; the results, by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            _be(rank, size, port, work, folder)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * size
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _be(rank, size, port, work, folder):
    where = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in where.items()})
    try:
        torch.save(work(World.from_environment()), folder / f"{rank}.pt")
        torch.distributed.destroy_process_group()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@pytest.fixture(scope="module")
def batch(tools):
    shared = ("def copy_tree(): pass", "what is the sum")
    pairs = [
        Pair(p.anchor, p.positive, shared[: i % 3], label="ab"[i % 2] if i < 4 else None)
        for i, p in enumerate(tools.pairs[:13])
    ]
    pairs += [Pair("one", "two", kind="symmetric"), Pair("three", "four", kind="symmetric")]
    return Batch(0, tuple(pairs), (Traits("d"),) * len(pairs))


def double(base):
    embedder = load_base(ModelSettings(base=str(base), max_length=32))
    embedder.backbone.double()
    return embedder


def compute(base, batch, tools, world, *, sharded=False):
    """Loss and whole gradients of the batch, as every process has them."""
    embedder = double(base)
    model = embedder.backbone
    if sharded:
        shard(model, world, 32)
    budget = Budget(40, 0)
    outcome = Stepper(embedder, tools.settings(), LOSS, budget, world, sharded).accumulate(batch)
    found = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        found[name] = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return {"loss": outcome.loss, "tokens": outcome.num_tokens, "gradients": found}


@pytest.mark.parametrize("sharded", [False, True])
def test_processes_without_a_text_or_a_row_of_a_small_batch_are_one_too(base, tools, tmp_path, sharded):
    pairs = (Pair("one", "two", kind="symmetric"), Pair("two", "three", kind="symmetric"))
    small = Batch(0, pairs, (Traits("d"),) * 2)
    one = compute(base, small, tools, World())
    many = in_processes(4, lambda world: compute(base, small, tools, world, sharded=sharded), tmp_path / "out")
    for result in many:
        assert (result["loss"], result["tokens"]) == (pytest.approx(one["loss"], rel=1e-12), one["tokens"])
        tools.assert_close(result["gradients"], one["gradients"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("size", "sharded"), [(2, False), (4, False), (2, True)])
def test_many_processes_are_one(base, batch, tools, tmp_path, size, sharded):
    one = compute(base, batch, tools, World())
    many = in_processes(size, lambda world: compute(base, batch, tools, world, sharded=sharded), tmp_path / "out")
    for result in many:
        assert result["loss"] == pytest.approx(one["loss"], rel=1e-12)
        assert result["tokens"] == one["tokens"]
        tools.assert_close(result["gradients"], one["gradients"], rtol=1e-9, atol=1e-12)


def recipe(base, folder, tools, **training):
    path = folder / "pairs.parquet"
    values = {
        "tuning": "full",
        "learning_rate": 3e-3,
        "memory_gb": 0.05,
        "max_steps": 6,
        "batch_size": 16,
        "epochs": 9.0,
        "average": 0.5,
    }
    return Recipe.model_validate(
        {
            "model": {"base": str(base), "max_length": 32},
            "data": {"pairs": [str(path)]},
            "training": {**values, "precision": "float32", **training},
            "watch": {"checkpoint_every": 2},
            "output": {"folder": str(folder / "model")},
        }
    )


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_a_run_of_two_processes_writes_the_model_of_one_and_resumes_on_another_number(base, tools, tmp_path, sharding):
    for name in ("one", "two"):
        write_pairs(tools.pairs, tmp_path / name / "pairs.parquet")
    alone = train(recipe(base, tmp_path / "one", tools), show_progress=False)

    def work(world, **changes):
        given = recipe(base, tmp_path / "two", tools, sharding=sharding, **changes)
        history = train(given, resume=True, allow_changes=True, show_progress=False)
        return [step.loss for step in history.steps]

    in_processes(2, lambda world: work(world, max_steps=3), tmp_path / "first")
    losses = in_processes(2, work, tmp_path / "second")
    assert len(losses[0]) == 6
    assert losses[0][3:] == losses[1]  # the leading process keeps the log
    assert losses[0] == pytest.approx([step.loss for step in alone.steps], rel=1e-3)
    texts = [pair.anchor for pair in tools.pairs]
    one, two = (Embedder.load(tmp_path / name / "model", dtype="float32").encode(texts) for name in ("one", "two"))
    assert float((one * two).sum(1).min()) > 0.9999
    # What two processes saved, one goes on from.
    longer = recipe(base, tmp_path / "two", tools, max_steps=8)
    assert len(train(longer, resume=True, allow_changes=True, show_progress=False).steps) == 8


def test_a_fresh_base_is_sharded_and_says_that_nothing_is_scored(tools, tmp_path):
    held_out = [Pair(p.anchor, p.positive, split="held_out") for p in tools.pairs[40:]]
    write_pairs([*tools.pairs[:40], *held_out], tmp_path / "pairs.parquet")
    given = recipe("fresh", tmp_path, tools, sharding="full", max_steps=1)

    def work(world):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            train(given, show_progress=False)
        return [str(one.message) for one in told if one.category is ScoresWarning]

    (said,), none = in_processes(2, work, tmp_path / "out")
    assert "held-out rows are not scored" in said and none == []
    assert Embedder.load(tmp_path / "model").encode(["copy the tree"]).shape == (1, 256)


def test_each_process_gets_its_own_random_state_back(tmp_path):
    def work(world):
        weight = torch.nn.Parameter(torch.ones(2))
        optimizer, names = torch.optim.AdamW([weight]), {id(weight): "weight"}
        weight.sum().backward()
        optimizer.step()
        torch.manual_seed(world.rank)
        state = checkpoint.State(1, [1, 1], None, {}, "", "", {}, 0)
        checkpoint.save(tmp_path / "kept", state, optimizer, names, world)
        drawn = torch.rand(1)
        torch.manual_seed(9)
        checkpoint.load(tmp_path / "kept" / "step-00000001", optimizer, names, world)
        return [float(drawn), float(torch.rand(1))]

    first, second = in_processes(2, work, tmp_path / "out")
    assert first[0] == first[1] and second[0] == second[1] != first[0]


def test_the_optimisers_steps_are_restored_to_where_the_weights_are():
    """Fused AdamW on an accelerator counts there."""
    weight = torch.nn.Parameter(torch.ones(2, device="meta"))
    optimizer = torch.optim.AdamW([weight])
    kept = {"weight.w": torch.ones(2), "optimizer.step.w": torch.tensor(3.0)}
    kept |= {f"optimizer.{name}.w": torch.ones(2) for name in ("exp_avg", "exp_avg_sq")}
    shard = SimpleNamespace(get_tensor=kept.get, keys=kept.keys)
    checkpoint._restore(optimizer, {id(weight): "w"}, checkpoint._Source([(shard, dict.fromkeys(kept))]))
    assert {tensor.device.type for tensor in optimizer.state[weight].values()} == {"meta"}


def test_a_process_takes_its_device_before_the_model_is_loaded(base, tools, tmp_path, monkeypatch):
    done = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", done.append)
    monkeypatch.setattr(run, "open_recipe", lambda *_: done.append("loaded") or sys.exit())
    with pytest.raises(SystemExit):
        train(recipe(base, tmp_path, tools))
    assert done == [1, "loaded"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ModelError, match=r"process 1 of this machine has no CUDA device.*give --nproc-per-node 1"):
        train(recipe(base, tmp_path, tools))


def test_gathered_weights_are_the_weights(base, tools, tmp_path):
    def work(world):
        embedder = double(base)
        before = {name: t.clone() for name, t in embedder.backbone.state_dict().items()}
        shard(embedder.backbone, world, 32)
        after = gather(embedder.backbone)
        return all(after[name].equal(before[name]) for name in before)

    assert in_processes(2, work, tmp_path / "out") == [True, True]


def test_shares_cover_every_text_once_and_weigh_alike(batch):
    from udever.training.batches import batch_texts

    texts = batch_texts(batch)
    for size in (1, 2, 3, 4):
        shares = [texts.share(rank, size) for rank in range(size)]
        assert sorted(i for share in shares for i in share) == list(range(len(texts.texts)))
        characters = [sum(len(texts.texts[i].text) for i in share) for share in shares]
        longest = max(len(text.text) for text in texts.texts)
        assert max(characters) - min(characters) <= 2 * longest


def test_positions_that_look_at_the_longest_text_are_not_sharded(make):
    rule = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    model = make.model("qwen3", rope_parameters=rule, max_position_embeddings=64)
    with pytest.raises(ModelError, match="max_length is 65"):
        shard(model, World(0, 2), 65)
