"""Several arrangements, tried one after another within a time, killed and gone on with."""

import io
import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from udever import Embedder
from udever.adaptation import (
    AdaptSettings,
    adapt,
    attempts,
    default_training,
    demo_of,
    plan_adaptation,
    run_folder,
    scores,
    settings,
)
from udever.adaptation.attempts import arrangements, fitting, seconds_of, train_all
from udever.adaptation.choice import Choice
from udever.errors import RecipeError
from udever.pairs.files import read_pairs
from udever.pairs.mining import Mined
from udever.pairs.schema import Pair
from udever.training import ModelSettings, TrainingSettings
from udever.training.fresh import make_base
from udever.training.grad_cache import Stepper
from udever.training.log import History, StepRecord
from udever.training.recipe import Recipe

VERBS = ["copy", "parse", "split", "read", "sort", "hash", "open", "join"]
TRAINING = TrainingSettings(tuning="full", batch_size=8, max_steps=3, learning_rate=3e-3, precision="float32")
PAIRS = [Pair(f"a{n}", f"b{n}", split="development" if n == 4 else "train") for n in range(10)]
EVERY_ROW = AdaptSettings(max_seen=None)
MINED = Mined(PAIRS, {}, 1, kinds=["code"] * 5 + ["names"] * 2 + ["comments"] * 3)


def names(settings, mined=MINED):
    return [one.name for one in arrangements(settings, "seedling", mined)]


def test_what_is_worth_a_try():
    first, fewer, longer, slower = arrangements(AdaptSettings(), "seedling", MINED)
    assert "comments" not in fewer.kinds and {"code", "docs", "names"} < {*fewer.kinds}
    assert longer.training.epochs == 2 * first.training.epochs
    assert slower.training.learning_rate == first.training.learning_rate / 2
    every = names(AdaptSettings())
    assert {one.negatives for one in arrangements(AdaptSettings(negatives=1), "seedling", MINED)} == {1}
    assert names(AdaptSettings(training=TRAINING)) == every[:1]
    undecided = replace(MINED, pairs=[replace(pair, split="train") for pair in PAIRS])
    assert names(AdaptSettings(), undecided) == every[:1]
    assert names(AdaptSettings(), replace(MINED, kinds=["code"] * 10)) == [every[0], *every[2:]]


@pytest.mark.parametrize(
    ("base", "given", "times"),
    [
        ("seedling", {}, 2),
        ("seedling", {"training": TRAINING}, 1),
        ("seedling", {"training": TRAINING, "trainings": 3}, 3),
        ("seedling", {"trainings": 1}, 1),
        ("fresh", {}, 1),
        ("gemma3-270m", {}, 1),
    ],
)
def test_how_often_an_arrangement_is_trained(base, given, times):
    tried = arrangements(AdaptSettings(**given), base, MINED)
    assert {arrangement.times for arrangement in tried} == {times}


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("minutes", -1, 0), ("minutes", math.nan, 0), ("trainings", 0, 1), ("negatives", -1, 0), ("max_length", 3, 4)],
)
def test_a_number_below_what_it_can_be_is_refused(name, value, least):
    with pytest.raises(RecipeError, match=f"^{name} is {value}; expected at least {least}$"):
        AdaptSettings(**{name: value})


def test_time_without_end_is_refused():
    with pytest.raises(RecipeError, match=r"^minutes is inf; expected a finite number$"):
        AdaptSettings(minutes=math.inf)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**20])
def test_a_seed_that_training_would_not_take_is_refused(seed):
    with pytest.raises(RecipeError, match=f"^seed is {seed}; input should be"):
        AdaptSettings(seed=seed)


def test_several_trainings_of_random_weights_have_no_mean_and_are_refused_before_any_work(tmp_path):
    settings = AdaptSettings(trainings=2)
    for run in (
        lambda: adapt([tmp_path / "nowhere"], tmp_path / "out", settings, base="fresh"),
        lambda: plan_adaptation([tmp_path / "nowhere"], tmp_path / "out", settings, base="fresh", console=Console()),
    ):
        with pytest.raises(RecipeError, match=r"trainings is 2 and the base fresh, .*; expected 1"):
            run()


@pytest.mark.parametrize(("base", "has_mean"), [("seedling", True), ("fresh", False)])
def test_attempts_from_random_weights_are_not_averaged_with_one_another(base, has_mean):
    tried = arrangements(AdaptSettings(), base, MINED)[:2]
    model = ModelSettings(base=base)
    recipes = [Recipe(model=model, data={"pairs": ["p"]}, output={"folder": name}) for name in "ab"]
    done = [attempts.Attempt(one, MINED, [recipe], []) for one, recipe in zip(tried, recipes, strict=True)]
    assert (scores.AVERAGED in scores._candidates(done)) == has_mean


def test_what_there_is_time_for():
    tried = arrangements(AdaptSettings(), "seedling", MINED)
    assert seconds_of(tried, 9.0, MINED, EVERY_ROW) == pytest.approx([9, 6, 18, 9])
    with_negatives = [tried[0], replace(tried[0], negatives=2)]
    assert seconds_of(with_negatives, 9.0, MINED, EVERY_ROW) == pytest.approx([9, 18])
    once_and_twice = [replace(tried[0], times=times) for times in (1, 2)]
    assert seconds_of(once_and_twice, 9.0, MINED, EVERY_ROW) == pytest.approx([9, 18])
    seconds = [6.0, 18.0, 9.0]
    assert fitting(tried[1:], seconds, 9.0, 25.0) == [tried[1], tried[3]]
    assert fitting(tried[1:], seconds, 9.0, 35.9) == tried[1:3]
    assert fitting(tried[1:], seconds, 9.0, 8.0) == []
    assert fitting(tried[1:], seconds, 9.0, 100.0) == tried[1:]


@pytest.mark.parametrize(
    ("train_pairs", "max_seen", "passes"),
    [
        (100, None, 8),
        (2_000, None, 6.4),
        (20_000, None, 4),
        (20_000, 60_000, 3),
        (100_000, 60_000, 1),
        (2_000, 10_000, 5),
    ],
)
def test_few_pairs_are_passed_more_often(train_pairs, max_seen, passes):
    training = TRAINING.model_copy(update={"epochs": 4.0, "max_steps": None})
    assert attempts._passes(training, train_pairs, AdaptSettings(max_seen=max_seen)) == passes


@pytest.fixture(scope="module")
def project(documented):
    return documented(VERBS, ["tree", "date", "line", "key", "file"], comment="look at it once more")


@pytest.fixture(scope="module")
def base(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh") / "base"
    make_base([path.read_text() for path in project.iterdir()], folder, vocab_size=400, hidden_size=32, num_heads=2)
    return folder


@pytest.fixture
def small(monkeypatch):
    """Few steps, a few development questions, and of two arrangements the one with negatives chosen by them."""
    monkeypatch.setattr("udever.pairs.split.MIN_TO_CHOOSE", 8)
    monkeypatch.setattr(attempts, "default_training", lambda _: TRAINING)

    def two(*given):
        first = arrangements(*given)[0]
        return [first, replace(first, name="with two hard negatives", negatives=2)]

    monkeypatch.setattr(attempts, "arrangements", two)

    def chosen(start, trained, task, *_):
        assert task is not None and len(list(trained)) == 3  # the two, and their average
        return Choice(1.0, 0.05, 0.1, {(0, 0.0): 0.5, (1, 1.0): 0.6}, 8, 1)

    monkeypatch.setattr(scores, "choose", chosen)


def stopped_in_the_second(monkeypatch):
    """Send SIGTERM in the fifth step of twice three; the list of all steps' batches."""
    plain, steps = Stepper.accumulate, []

    def interrupted(self, batch):
        steps.append(batch.number)
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch)

    monkeypatch.setattr(Stepper, "accumulate", interrupted)
    return steps


SETTINGS = AdaptSettings(held_out=0.2, development=0.3, max_length=48, minutes=60, trainings=1)


def test_all_that_fit_are_tried_and_one_stopped_in_the_second_ends_alike(small, project, base, tmp_path, monkeypatch):
    said = io.StringIO()

    def run(output):
        console = Console(file=said, width=300)
        return adapt([project], output, SETTINGS, base=str(base), resume=True, console=console)

    whole = tmp_path / "whole"
    assert run(whole) is not None
    printed = said.getvalue()
    assert "trying with two hard negatives" in printed
    assert "1 of the way from base to the weights trained with two hard negatives" in printed
    pairs = read_pairs(whole / "pairs.parquet")
    assert {len(pair.negatives) for pair in pairs if pair.split == "train"} & {1, 2}
    assert not any(pair.negatives for pair in pairs if pair.split != "train")
    assert Recipe.read(whole / "model" / "recipe.toml").data.pairs[0] == str(whole / "pairs.parquet")
    report = (whole / "report.html").read_text()
    assert "training pairs with hard negatives" in report and "trained with two hard negatives" in report
    steps, output = stopped_in_the_second(monkeypatch), tmp_path / "stopped"
    assert run(output) is None
    assert (run_folder(output) / "tried.json").is_file() and not output.exists()
    assert (run_folder(output) / "attempts" / "2" / "step-00000002").is_dir()
    assert run(output) is not None and len(steps) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "whole"]
    for name in ("model/model.safetensors", "pairs.parquet", "studied.parquet", "model/search.json"):
        assert (output / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_average_of_all_that_were_trained_may_be_chosen(share, small, project, base, tmp_path, monkeypatch):
    start = Embedder.load(base, dtype="float32").backbone.state_dict()
    trained = []

    def chosen(_, models, task, *__):
        assert task is not None
        for model in models:
            trained.append({name: tensor.clone() for name, tensor in model.backbone.state_dict().items()})
        return Choice(share, 0.05, 0.1, {(0, 0.0): 0.5, (2, share): 0.6}, 8, 2)

    monkeypatch.setattr(scores, "choose", chosen)
    said = io.StringIO()
    console = Console(file=said, width=300)
    assert adapt([project], tmp_path / "out", SETTINGS, base=str(base), console=console) is not None
    assert f"{share:g} of the way from base to the weights trained each way, averaged" in said.getvalue()
    first, second, average = trained
    end = Embedder.load(tmp_path / "out" / "model", dtype="float32").backbone.state_dict()
    assert any(not torch.equal(first[name], second[name]) for name in first)
    for name, tensor in end.items():
        assert torch.allclose(average[name], (first[name] + second[name]) / 2, atol=1e-6), name
        assert torch.allclose(tensor, start[name] * (1 - share) + average[name] * share, atol=1e-6), name
    assert "averaged" in (tmp_path / "out" / "model" / "README.md").read_text()
    assert "averaged" in (tmp_path / "out" / "report.html").read_text()


def test_the_mean_of_trainings_from_several_seeds_is_one_candidate(small, project, base, tmp_path, monkeypatch):
    settings = replace(SETTINGS, minutes=0, trainings=2)
    offered = []

    def chosen(_, models, task, *__):
        assert task is not None
        offered.extend(model.backbone.state_dict() for model in models)
        return Choice(1.0, 0.05, 0.1, {(0, 0.0): 0.5, (0, 1.0): 0.6}, 8, 0)

    monkeypatch.setattr(scores, "choose", chosen)
    recipes, trained, train = [], [], attempts.train

    def noting(recipe, **how):
        history = train(recipe, **how)
        recipes.append(recipe)
        trained.append(Embedder.load(recipe.output.folder, dtype="float32").backbone.state_dict())
        return history

    monkeypatch.setattr(attempts, "train", noting)
    said = io.StringIO()
    console = Console(file=said, width=300)
    assert adapt([project], tmp_path / "whole", settings, base=str(base), console=console) is not None
    assert [recipe.training.seed for recipe in recipes] == [0, 1]
    assert "weights trained as it stands (mean of 2 trainings)" in said.getvalue()
    assert "mean of 2 trainings" in (tmp_path / "whole" / "model" / "README.md").read_text()
    [mean], (first, second) = offered, trained
    end = Embedder.load(tmp_path / "whole" / "model", dtype="float32").backbone.state_dict()
    assert any(not torch.equal(first[name], second[name]) for name in first)
    for name, tensor in end.items():
        assert torch.allclose(mean[name], (first[name] + second[name]) / 2, atol=1e-6), name
        assert torch.allclose(tensor, mean[name], atol=1e-6), name

    monkeypatch.setattr(attempts, "train", train)
    steps, output = stopped_in_the_second(monkeypatch), tmp_path / "stopped"
    assert adapt([project], output, settings, base=str(base)) is None
    assert adapt([project], output, settings, base=str(base), resume=True) is not None and len(steps) == 6
    whole, stopped = (folder / "model" / "model.safetensors" for folder in (tmp_path / "whole", output))
    assert whole.read_bytes() == stopped.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "whole"]


def test_what_was_begun_is_tried_again_however_long_it_takes_now(tmp_path, monkeypatch):
    taken = [9.0]

    def train(recipe, **_):
        return History([StepRecord(1, 0.0, 0.0, 0.0, 0, 0, taken[0], "")], 0, 0, stopped=taken[0] == 0)

    def tried(kept, seconds, minutes):
        taken[0] = seconds
        said = io.StringIO()
        settings = AdaptSettings(minutes=minutes, trainings=1)
        found = train_all(MINED, settings, "seedling", kept, 1.0, resume=True, console=Console(file=said, width=200))
        return None if found is None else [attempt.arrangement.name for attempt in found], said.getvalue()

    monkeypatch.setattr(attempts, "train", train)
    every = names(AdaptSettings())
    found, said = tried(tmp_path / "one", 9.0, None)
    assert found == every[:1] and "3 more would not have been done within 5 s (--minutes)" in said
    assert tried(tmp_path / "two", 9.0, 2) == (every, "".join(f"trying {name}\n" for name in every[1:]))
    assert tried(tmp_path / "two", 900.0, 2)[0] == every, "what a stopped run had begun to try"
    assert tried(tmp_path / "three", 0.0, 9)[0] is None
    left = {path.name for path in (tmp_path / "two" / "attempts" / "2").iterdir()}
    assert left == {"pairs.parquet", "studied.parquet"}
    assert {pair.anchor for pair in read_pairs(tmp_path / "two" / "attempts" / "2" / "studied.parquet")} == {"a5", "a6"}


def test_a_plan_writes_nothing(small, project, base, tmp_path):
    said = io.StringIO()
    settings = replace(SETTINGS, minutes=0)
    plan_adaptation([project], tmp_path / "out", settings, base=str(base), console=Console(file=said, width=300))
    printed = said.getvalue()
    assert list(tmp_path.iterdir()) == [] and "/tmp" not in printed
    assert "3 steps of 8 pairs" in printed and "training within 0 s" in printed
    assert printed.count("for which there is no time") == 3
    assert "embedding texts to choose and to compare comes on top" in printed


@pytest.mark.parametrize(("model_reads", "cut_at"), [(300, 128), (48, 48)])
def test_texts_are_cut_for_training_where_the_model_reads_as_far(model_reads, cut_at, tmp_path):
    first = arrangements(AdaptSettings(), "gemma3-270m", MINED)[0]
    recipe, _ = attempts.prepare(
        first, MINED, AdaptSettings(max_length=model_reads), "gemma3-270m", tmp_path / "own", tmp_path / "run"
    )
    assert (recipe.training.max_length, recipe.model.max_length) == (cut_at, model_reads)


def test_a_large_base_is_trained_by_lora_for_some_steps_and_reads_less(monkeypatch, tmp_path):
    assert default_training("gemma3-270m").tuning == default_training("a/b.GGUF").tuning == "lora"
    make_base(["a text"], tmp_path / "base", vocab_size=300, hidden_size=16)
    for other in (str(tmp_path / "base"), "org/of-any-size"):
        suited = default_training(other)
        assert (suited.tuning, suited.max_steps, suited.max_length) == ("auto", 60, 128)
    monkeypatch.setattr(settings, "LARGE", 1000)
    assert default_training(str(tmp_path / "base")).tuning == "lora"
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert default_training(str(tmp_path / "adapter")).tuning == "lora"
    whole, part = demo_of("seedling")[0], demo_of("gemma3-270m")[0]
    assert len(part) > 15 > len(whole) and all(place.is_relative_to(whole[0]) for place in part)


def test_so_many_steps_cost_no_more_however_many_pairs_there_are():
    few = TRAINING.model_copy(update={"max_steps": 1, "batch_size": 4, "epochs": 9.0})
    arranged = arrangements(AdaptSettings(), "gemma3-270m", MINED)
    assert arranged[1].training.max_steps == arranged[0].training.max_steps
    assert replace(arranged[0], training=few).cost(MINED, EVERY_ROW) == 4 * 2
    longer = next(one for one in arranged if one.name == "in twice the passes")
    assert longer.training.max_steps == 2 * arranged[0].training.max_steps
