"""Killed anywhere and resumed is never killed, bit for bit; and what a resume refuses."""

import json
import os
import random
import resource
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from udever import training
from udever.errors import DataError, ModelError, OutputError
from udever.pairs.files import write_pairs
from udever.pairs.schema import Pair
from udever.storage import MARKER, write_marker
from udever.training import checkpoint, loop
from udever.training.checkpoint import claimed
from udever.training.fresh import make_base
from udever.training.grad_cache import Stepper
from udever.training.log import LOG_FILE
from udever.training.loop import Trainer
from udever.training.recipe import Recipe

STEPS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory, tools):
    folder = tmp_path_factory.mktemp("data")
    write_pairs(tools.pairs, folder / "code.parquet")
    write_pairs([Pair(p.positive, p.anchor, kind="symmetric") for p in tools.pairs[:24]], folder / "flipped.parquet")
    lines = [json.dumps({"anchor": pair.anchor, "positive": pair.positive}) for pair in tools.pairs]
    (folder / "stream.jsonl").write_text("\n".join(lines))
    return folder


def datasets(data, what):
    if what == "streaming":
        streams = [
            {"path": str(data / name), "streaming": True, "weight": weight, "name": name}
            for name, weight in (("stream.jsonl", 2.0), ("code.parquet", 1.0))
        ]
        return {"datasets": streams}
    if what == "several":
        return {"pairs": [str(data / "code.parquet"), str(data / "flipped.parquet")]}
    return {"pairs": [str(data / "flipped.parquet")]}  # 24 rows: 5 batches of 8 are more than one pass


def recipe(base, data, folder, *, tuning="full", what="one", **training):
    steps = {"max_steps": STEPS, "epochs": 50.0, "batch_size": 8, "precision": "float32", "lora_dropout": 0.1}
    steps |= {"average": 0.7, "decay": 0.4} if what == "several" else {}
    return Recipe.model_validate(
        {
            "model": {"base": str(base), "max_length": 32},
            "data": datasets(data, what),
            "training": {"tuning": tuning, "learning_rate": 3e-3, "memory_gb": 0.05, **steps, **training},
            "watch": {"checkpoint_every": 2, "keep": 2},
            "output": {"folder": str(folder / "model")},
        }
    )


def train(recipe, **options):
    """The whole run, each step announced as a place to be killed at."""
    plain = Stepper.accumulate

    def announced(self, batch):
        sys.audit("test.step")
        outcome = plain(self, batch)
        sys.audit("test.step")
        return outcome

    Stepper.accumulate = announced
    try:
        return training.train(recipe, show_progress=False, **options)
    finally:
        Stepper.accumulate = plain


def weights(folder):
    return (Path(folder) / "model" / "model.safetensors").read_bytes()


RUNS = [("full", "one"), ("full", "several"), ("lora", "one"), ("bitfit", "several"), ("full", "streaming")]


@pytest.mark.parametrize(("tuning", "what"), RUNS)
def test_killed_anywhere_and_resumed_is_never_killed(base, data, tmp_path, killed, tuning, what):
    """Four places of each of five runs, spread over its steps and its writing of checkpoints and model."""

    def work(folder):
        folder.mkdir(exist_ok=True)
        return lambda: train(recipe(base, data, folder, tuning=tuning, what=what), resume=True)

    places = killed(work(tmp_path / "whole"), 10**9)
    assert places > 2 * STEPS
    expected = weights(tmp_path / "whole")
    for number in range(4):
        folder = tmp_path / f"killed-{number}"
        assert killed(work(folder), int((number + 0.5) * places / 4)) is None
        assert killed(work(folder), 10**9) is not None
        assert weights(folder) == expected
        log = [json.loads(line) for line in (folder / "model-checkpoints" / LOG_FILE).read_text().splitlines()]
        assert [line["step"] for line in log] == list(range(1, STEPS + 1))


def test_the_last_checkpoints_stay_and_a_finished_run_resumes_to_the_same_model(base, data, tmp_path):
    run = recipe(base, data, tmp_path)
    train(run)
    kept = tmp_path / "model-checkpoints"
    assert [path.name for path in checkpoint.checkpoints(kept)] == ["step-00000004", "step-00000005"]
    before = weights(tmp_path)
    assert train(run, resume=True).stopped is False
    assert weights(tmp_path) == before
    card = (tmp_path / "model" / "README.md").read_text()
    assert "5 steps of 8" in card
    assert "flipped" in card
    assert (tmp_path / "model" / "training.svg").read_text().startswith("<svg")


def test_a_run_that_was_begun_is_neither_replaced_nor_changed_unasked(base, data, tmp_path):
    train(recipe(base, data, tmp_path))
    with pytest.raises(OutputError, match="--resume, or begin anew with --restart"):
        train(recipe(base, data, tmp_path))
    longer = recipe(base, data, tmp_path, max_steps=9)
    with pytest.raises(OutputError, match=r"training\.max_steps: 5 -> 9"):
        train(longer, resume=True)
    assert len(train(longer, resume=True, allow_changes=True).steps) == 9
    assert len(train(recipe(base, data, tmp_path), restart=True).steps) == STEPS
    with pytest.raises(OutputError, match="give one of them"):
        train(longer, resume=True, restart=True)


def test_a_changed_base_is_another_run(base, data, tmp_path, tools):
    mine = tmp_path / "base"
    shutil.copytree(base, mine)
    run = recipe(mine, data, tmp_path, tuning="lora", max_steps=1)
    train(run)
    make_base([pair.anchor for pair in tools.pairs], mine, vocab_size=300, hidden_size=32, seed=1)
    with pytest.raises(OutputError, match=r"the base's weights, tokenizer or contract.*--allow-changes"):
        train(run, resume=True)
    train(run, resume=True, allow_changes=True)


def test_memory_may_change_and_is_then_planned_anew(base, data, tmp_path, monkeypatch):
    planned, used = [], []
    plain, resumed = loop.plan_budget, Trainer._resume

    def plan_budget(*given):
        planned.append(plain(*given))
        return replace(planned[-1], batch_tokens=planned[-1].batch_tokens // 2)  # as if it had been halved on the way

    def resume(self, keeping):
        first = resumed(self, keeping)
        used.append(self.stepper.budget.batch_tokens)
        return first

    monkeypatch.setattr(Trainer, "_resume", resume)
    train(recipe(base, data, tmp_path, memory_gb=0.005))
    monkeypatch.setattr(loop, "plan_budget", plan_budget)
    for memory_gb in (0.005, 0.002):
        train(recipe(base, data, tmp_path, memory_gb=memory_gb), resume=True)
    same, other = planned
    assert used == [same.batch_tokens, same.batch_tokens, other.batch_tokens // 2]


def test_checkpoints_in_the_output_are_refused_before_training(base, data, tmp_path):
    given = recipe(base, data, tmp_path).model_dump()
    for place in ("model", "model/checkpoints"):
        given["watch"]["checkpoints"] = str(tmp_path / place)
        with pytest.raises(OutputError, match=r"watch\.checkpoints is .*which is replaced whole"):
            train(Recipe.model_validate(given))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({}, {"average": 0.9}, r"training\.average: 0\.0 -> 0\.9\): it lacks average\."),
        ({"average": 0.9}, {}, r"training\.average: 0\.9 -> 0\.0\): it holds"),
        ({"tuning": "lora"}, {"tuning": "lora", "lora_rank": 4}, r"training\.lora_rank: 16 -> 4"),
        ({"tuning": "lora"}, {"tuning": "bitfit"}, r"training\.tuning: \"lora\" -> \"bitfit\""),
    ],
)
def test_a_change_that_no_checkpoint_fits_is_named(base, data, tmp_path, before, after, says):
    train(recipe(base, data, tmp_path, max_steps=1, **before))
    with pytest.raises(OutputError, match=rf"does not fit what was changed \({says}.*undo that, or .*--restart"):
        train(recipe(base, data, tmp_path, max_steps=1, **after), resume=True, allow_changes=True)


def test_changed_data_is_another_run(base, data, tmp_path, tools):
    path = tmp_path / "pairs.parquet"
    write_pairs(tools.pairs[:24], path)
    given = recipe(base, data, tmp_path).model_dump()
    run = Recipe.model_validate({**given, "data": {"pairs": [str(path)]}})
    train(run)
    write_pairs(tools.pairs[1:25], path)
    with pytest.raises(OutputError, match="the data files' content"):
        train(run, resume=True)
    path.unlink()
    with pytest.raises(DataError, match=r"pairs\.parquet"):
        train(run, resume=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_saves(base, data, tmp_path, monkeypatch, number):
    run = recipe(base, data, tmp_path)
    plain, seen = Stepper.accumulate, []

    def interrupted(self, batch):
        seen.append(batch.number)
        if len(seen) == 3:
            os.kill(os.getpid(), number)
        return plain(self, batch)

    monkeypatch.setattr(Stepper, "accumulate", interrupted)
    history = training.train(run, show_progress=False)
    assert history.stopped
    assert seen == [0, 1, 2]
    assert checkpoint.checkpoints(tmp_path / "model-checkpoints")[-1].name == "step-00000003"
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    assert training.train(run, resume=True, show_progress=False).stopped is False
    other = recipe(base, data, tmp_path / "other")
    train(other)
    assert weights(tmp_path) == weights(tmp_path / "other")


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(base, data, tmp_path, monkeypatch):
    plain = Stepper._loss

    def poisoned(self, texts, vectors):
        loss, gradient = plain(self, texts, vectors)
        poisoned.calls += 1
        return (float("nan"), gradient) if poisoned.calls == 4 else (loss, gradient)

    poisoned.calls = 0
    monkeypatch.setattr(Stepper, "_loss", poisoned)
    with pytest.raises(ModelError, match="the loss is nan in batch 3"):
        training.train(recipe(base, data, tmp_path), show_progress=False)
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "model-checkpoints")] == ["step-00000002"]


def test_a_full_disk_leaves_the_checkpoints_before_it(base, data, tmp_path, killed):
    """Files may grow to a size that the log and the state fit in, and the weights do not."""
    run = recipe(base, data, tmp_path)

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(OutputError, match=r"step-00000002|free"):
            training.train(run, show_progress=False)

    killed(work, 10**9)
    kept = tmp_path / "model-checkpoints"
    assert checkpoint.checkpoints(kept) == []
    assert sorted(path.name for path in kept.iterdir()) == [MARKER, LOG_FILE]
    train(run, resume=True)


def test_a_broken_checkpoint_is_named(base, data, tmp_path):
    run = recipe(base, data, tmp_path)
    train(run)
    last = checkpoint.checkpoints(tmp_path / "model-checkpoints")[-1]
    shard = last / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:500])
    with pytest.raises(ModelError, match=r"step-00000005 .*delete it"):
        train(run, resume=True)
    (last / checkpoint.STATE_FILE).write_text("{")
    with pytest.raises(ModelError, match=r"step-00000005 .*delete it"):
        train(run, resume=True)


def test_nothing_is_pickled(base, data, tmp_path):
    train(recipe(base, data, tmp_path))
    for path in checkpoint.checkpoints(tmp_path / "model-checkpoints"):
        assert {file.suffix for file in path.iterdir()} == {".json", ".safetensors"}


def test_a_text_of_a_million_characters_is_cut_and_counted(base, data, tmp_path, tools):
    path = tmp_path / "long.parquet"
    write_pairs([Pair("word " * 200_000, "short"), *tools.pairs[:7]], path)
    given = recipe(base, data, tmp_path, max_steps=2).model_dump()
    history = train(Recipe.model_validate({**given, "data": {"pairs": [str(path)]}}))
    assert history.num_truncated == 2
    assert all(torch.isfinite(torch.tensor(step.loss)) for step in history.steps)


def rewritten(path, change):
    """The checkpoint with another state, its digest made anew: what a program, not a disk, got wrong."""
    content = json.loads((path / checkpoint.STATE_FILE).read_text())
    change(content)
    content["digest"] = checkpoint._digest(path, content)
    (path / checkpoint.STATE_FILE).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["state"].update(step="5"),
        lambda content: content["state"].update(step=-5),
        lambda content: content["state"].update(step=4),
        lambda content: content["state"].update(budget=None),
        lambda content: content["state"].pop("data"),
        lambda content: content.pop("tensors"),
        lambda content: content.update(tensors=[n for n in content["tensors"] if "exp_avg." not in n]),
        lambda content: content["tensors"].append("weight.another"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_says_something_else_is_refused(base, data, tmp_path, change):
    run = recipe(base, data, tmp_path, max_steps=1)
    train(run)
    last = checkpoint.checkpoints(tmp_path / "model-checkpoints")[-1]
    content = (last / checkpoint.STATE_FILE).read_text()
    rewritten(last, change) if '"step": 1' in content else pytest.fail("no step 1")
    with pytest.raises(ModelError, match=r"step-00000001 is damaged or of another version.*delete it") as caught:
        train(run, resume=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_the_optimisers_state_is_refused(base, data, tmp_path):
    from safetensors.torch import load_file, save_file

    run = recipe(base, data, tmp_path, max_steps=1)
    train(run)
    last = checkpoint.checkpoints(tmp_path / "model-checkpoints")[-1]
    shard = last / "shard-00000.safetensors"
    tensors = load_file(shard)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer")}
    places = json.dumps(dict.fromkeys(kept))
    save_file(kept, shard, {"places": places})
    with pytest.raises(ModelError, match="not as they were written"):
        train(run, resume=True)
    rewritten(last, lambda content: None)
    with pytest.raises(ModelError, match="other tensors than it says"):
        train(run, resume=True)


def test_every_flipped_bit_of_a_checkpoint_is_noticed(base, data, tmp_path):
    train(recipe(base, data, tmp_path, max_steps=1))
    last = checkpoint.checkpoints(tmp_path / "model-checkpoints")[-1]
    checkpoint.read_state(last)
    choice = random.Random(0)
    for path in sorted(path for path in last.iterdir() if not path.name.startswith(".")):
        whole = path.read_bytes()
        for _ in range(25):
            place = choice.randrange(len(whole))
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << choice.randrange(8)]) + whole[place + 1 :])
            try:
                same = checkpoint.read_state(last)
            except ModelError:
                continue
            assert path.name == checkpoint.STATE_FILE
            path.write_bytes(whole)
            assert same == checkpoint.read_state(last)  # white space between the values
        path.write_bytes(whole)


def test_two_runs_do_not_write_one_folder(base, data, tmp_path):
    run = recipe(base, data, tmp_path)
    with claimed(tmp_path / "model-checkpoints"), claimed(tmp_path / "model"):
        for _ in range(2):  # the lock of the one that runs survives those that are refused
            with pytest.raises(OutputError, match=r"another run is writing to .*model-checkpoints"):
                train(run)
    elsewhere = run.model_dump()
    elsewhere["watch"]["checkpoints"] = str(tmp_path / "elsewhere")
    with (
        claimed(tmp_path / "model"),
        pytest.raises(OutputError, match=r"another run is writing to .*model;"),
    ):
        train(Recipe.model_validate(elsewhere))
    train(run)
    assert not list(tmp_path.glob(".*.lock"))


def test_what_killed_runs_left_is_removed(base, data, tmp_path):
    run = recipe(base, data, tmp_path, max_steps=1)
    train(run)
    kept = tmp_path / "model-checkpoints"
    halves = [kept / ".step-00000007.parts", kept / "step-00000008", kept / "step-00000009"]
    for half in halves:
        half.mkdir()
    for half in halves[:2]:
        (half / "shard-00000.safetensors").write_text("half")
    write_marker(halves[1], "checkpoint")
    theirs = kept / "step-00000010" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    others = tmp_path / ".model.mine.tmp"
    others.mkdir()
    train(run, resume=True)
    assert theirs.read_text() == "mine"
    assert sorted(path.name for path in kept.iterdir()) == [MARKER, LOG_FILE, "step-00000001", "step-00000010"]
    assert not any(half.exists() for half in halves) and others.exists()


def test_a_log_of_others_is_neither_written_over_nor_removed(base, data, tmp_path):
    log = tmp_path / "model-checkpoints" / LOG_FILE
    log.parent.mkdir()
    log.write_text("mine")
    run = recipe(base, data, tmp_path, max_steps=1)
    for how in ({}, {"resume": True}, {"restart": True}):
        with pytest.raises(OutputError, match=r"log\.jsonl was not written by a run of udever"):
            train(run, **how)
    assert log.read_text() == "mine"
    log.unlink()
    train(run)
    train(run, restart=True)


def test_a_run_that_was_killed_says_where_it_goes_on(base, data, tmp_path, udever, monkeypatch):
    file, kept = tmp_path / "recipe.toml", tmp_path / "model-checkpoints"
    file.write_text(recipe(base, data, tmp_path).to_toml())
    plain = Stepper.accumulate

    def killed(after, *options):
        """The first line of a run that ends without a word behind so many steps."""
        seen = []

        def step(self, batch):
            seen.append(batch)
            return sys.exit(9) if len(seen) > after else plain(self, batch)

        with monkeypatch.context() as patched:
            patched.setattr(Stepper, "accumulate", step)
            code, out, error = udever("train", file, *options)
        assert code == 9, error
        return out.partition("\n")[0]

    assert killed(1) == ""
    anew = f"there is no checkpoint in {kept} yet: training begins with the first step"
    assert killed(1) == killed(1, "--resume") == anew
    assert killed(1, "--restart") == ""
    assert killed(3, "--resume") == anew
    assert killed(1, "--resume") == f"training goes on behind step 2, the last checkpoint in {kept}"
    shutil.rmtree(kept)
    assert killed(0, "--resume") == anew
