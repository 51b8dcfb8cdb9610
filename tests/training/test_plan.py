"""`udever plan`, the log and the held-out scores: what is told before, while and after a run."""

import json
import re
import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udever.allocator import resident_bytes
from udever.errors import DataError
from udever.pairs.files import write_pairs
from udever.pairs.schema import Pair
from udever.training import train, validation
from udever.training.card import figure
from udever.training.grad_cache import Stepper, held_out_loss
from udever.training.log import LOG_FILE, History, Measure, StepRecord
from udever.training.plan import plan
from udever.training.recipe import Recipe
from udever.training.run import load_base
from udever.training.validation import LeakWarning, held_out

FORMS = ("{}", "## {}", "{}:", "{} again")


def copied(number):
    """Twenty words that stand in the text of no other number."""
    return " ".join(f"w{number}x{place}" for place in range(20))


@pytest.fixture
def recipe(base, tools, tmp_path):
    held_out = [Pair(p.anchor, p.positive, split="held_out") for p in tools.pairs[40:]]
    long = Pair("copy the long tree " * 9, "a text that is cut")
    write_pairs([long, *tools.pairs[1:40], *tools.pairs[1:9], *held_out], tmp_path / "pairs.parquet")
    return Recipe.model_validate(
        {
            "model": {"base": str(base), "max_length": 16},
            "data": {"pairs": [str(tmp_path / "pairs.parquet")]},
            "training": {"tuning": "full", "batch_size": 16, "epochs": 2.0, "precision": "float32", "memory_gb": 0.01},
            "watch": {"evaluate_every": 3, "trackers": ["tensorboard"]},
            "output": {"folder": str(tmp_path / "model")},
        }
    )


def test_the_plan_says_what_the_run_then_does(recipe, tmp_path):
    planned = plan(recipe)
    assert not (tmp_path / "model-checkpoints").exists()
    history = train(recipe, show_progress=False)
    assert (planned.num_steps, planned.num_trainable) == (len(history.steps), history.num_trainable) == (6, 36_352)
    tokens = [step.num_tokens for step in history.steps]
    assert min(tokens) <= planned.tokens_per_step <= max(tokens)
    assert history.num_truncated > 0
    assert planned.truncated_share == pytest.approx(history.num_truncated / (32 * 6), abs=0.1)
    assert 0 < planned.repeated_share < 0.3
    assert planned.longest_text_tokens == 16
    assert planned.datasets[0].duplicate_anchors == pytest.approx(8 / 48)
    assert planned.peak_bytes >= planned.base_bytes + 3 * 4 * 36_352
    text = "\n".join(planned.lines())
    assert "6 steps of 16 pairs; full moves 36,352 of 36,352 parameters" in text
    assert "16.7% of the anchors" in text
    quiet, busy = (replace(planned, others_share=share).lines()[4] for share in (0.05, 0.48))
    assert quiet.endswith("on this machine")
    assert busy.endswith("which was busy: other processes took 48% of its processors; alone it is faster")


def test_the_time_of_a_step_is_that_of_batches_as_long_as_the_usual(recipe, tmp_path, monkeypatch):
    """The fastest of the timed steps may be that of a short batch, whose time is not the others'."""
    short = [Pair(f"a{n}", f"b{n}") for n in range(40)]
    long = [Pair(f"number {n} of what is sought", f"what number {n} has to say of it") for n in range(40)]
    write_pairs(short, tmp_path / "short.parquet")
    write_pairs(long, tmp_path / "long.parquet")
    content = recipe.model_dump()
    content["data"] = {"datasets": [{"path": str(tmp_path / f"{name}.parquet")} for name in ("short", "long")]}
    accumulate, clock = Stepper.accumulate, [0.0]

    def timed(self, batch):
        outcome = accumulate(self, batch)
        clock[0] += outcome.num_tokens * 0.5
        return outcome

    monkeypatch.setattr(Stepper, "accumulate", timed)
    monkeypatch.setattr(sys.modules["udever.training.plan"], "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    found = plan(Recipe.model_validate(content))
    assert found.seconds_per_step == pytest.approx(0.5 * found.tokens_per_step)


def test_more_memory_means_fewer_second_runs(recipe):
    def at(memory_gb):
        return plan(recipe.model_copy(update={"training": recipe.training.model_copy(update={"memory_gb": memory_gb})}))

    small, large = at(0.0004), at(0.5)
    assert small.micro_batches > large.micro_batches == 1
    assert small.run_again > large.run_again == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system tells what is resident on Linux alone")
def test_the_plan_holds_in_resident_memory(make, killed, tmp_path):
    """Of a small Gemma in half precision over float32 weights: several micro-batches kept, some run twice."""
    wide = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "head_dim": 32}
    words = ["alpha", "beta", "gamma", "delta", "epsilon"]
    rows = [Pair(f"number {n} of all", " ".join(words[n * place % 5] for place in range(20))) for n in range(256)]
    write_pairs(rows, tmp_path / "pairs.parquet")
    recipe = Recipe.model_validate(
        {
            "model": {
                "base": str(make.decoder("gemma3_text", tmp_path / "base", **wide)),
                "markers": "eos",
                "max_length": 64,
            },
            "data": {"pairs": [str(tmp_path / "pairs.parquet")]},
            "training": {"tuning": "lora", "batch_size": 128, "precision": "bfloat16", "memory_gb": 0.15},
            "output": {"folder": str(tmp_path / "model")},
        }
    )

    def most():
        return resident_bytes()[1]

    def note(name, work):
        def run():
            before, found = resident_bytes()[0], work()
            (tmp_path / name).write_text(json.dumps([before, found]))

        assert killed(run, 10**9)
        return json.loads((tmp_path / name).read_text())

    def ran():
        train(recipe, show_progress=False)
        return most()

    before, planned = note("planned", lambda: plan(recipe).peak_bytes)
    _, took = note("took", ran)
    assert planned - before > 80e6
    assert planned - before == pytest.approx(took - before, rel=0.1)


def test_held_out_rows_are_scored_before_after_and_beside_bm25_and_never_trained_on(recipe, tools, tmp_path):
    rows = held_out(recipe)
    assert {pair.anchor for pair in rows.pairs} == {pair.anchor for pair in tools.pairs[40:]}
    history = train(recipe, show_progress=False)
    assert [step for step, _ in history.scores] == [0, 3, 6]
    assert history.scores[-1][1]["held-out loss"] < history.scores[0][1]["held-out loss"]
    measure = history.measure
    assert (measure.num_queries, measure.num_candidates, measure.candidates) == (24, 64, "all positives")
    lines = [json.loads(line) for line in (tmp_path / "model-checkpoints" / LOG_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 0, 1, 2, 3, 3, 4, 5, 6, 6]
    assert lines[0]["measure"]["bm25"] == measure.bm25
    card = (tmp_path / "model" / "README.md").read_text()
    [found] = ModelCard.load(tmp_path / "model" / "README.md").data.eval_results[:1]
    assert (found.metric_type, found.dataset_type) == ("mrr_at_10", "held-out")
    assert found.metric_value == round(history.scores[-1][1]["mrr@10"], 4)
    assert "24 queries, not trained on, each searching 64 candidates" in card
    rows = [line.split(" | ")[0] for line in card.splitlines() if line.startswith(("| BM25", "| before", "| after"))]
    assert rows == ["| BM25", "| before training", "| after step 3", "| after step 6, the end"]
    figure = (tmp_path / "model" / "training.svg").read_text()
    assert figure.count("<polyline") == 1 + len(history.scores[0][1])
    assert figure.count("BM25 ") == len(measure.bm25) and "among 64 candidates" in figure
    again = train(recipe, resume=True, show_progress=False)
    assert (again.scores, again.measure) == (history.scores, measure)


def watching(recipe, **changes):
    return recipe.model_copy(update={"watch": recipe.watch.model_copy(update=changes)})


def test_what_is_searched_is_bounded_or_named(recipe, tools, tmp_path):
    assert held_out(watching(recipe, evaluate_queries=0)) is None
    some = held_out(watching(recipe, evaluate_candidates=30))
    measure = some.measure()
    assert (measure.num_candidates, measure.candidates) == (30, "a sample of 64 positives")
    assert some.others == held_out(watching(recipe, evaluate_candidates=30)).others
    few = held_out(watching(recipe, evaluate_queries=5))
    assert (few.measure().num_queries, few.measure().num_candidates) == (5, 64)
    (tmp_path / "corpus.csv").write_text("answer\n" + "".join(f"text number {n}\n" for n in range(40)))
    named = {"evaluate_corpus": str(tmp_path / "corpus.csv"), "evaluate_column": "answer"}
    before, measure = measure, held_out(watching(recipe, **named)).measure()
    assert len({before.digest, few.measure().digest, measure.digest}) == 3
    assert measure.num_candidates == 64 and "corpus.csv and the held-out rows' own" in measure.candidates
    with pytest.raises(DataError, match=r"has no column 'text' \(it has answer\)"):
        held_out(watching(recipe, evaluate_corpus=named["evaluate_corpus"]))
    with pytest.raises(DataError, match=r"no column 'anser' \(it has answer\); did you mean 'answer'\?"):
        held_out(watching(recipe, evaluate_corpus=named["evaluate_corpus"], evaluate_column="anser"))
    with pytest.raises(DataError, match=r"watch\.evaluate_corpus: .*corpsu\.csv is not a file; did you mean .*corpus"):
        held_out(watching(recipe, evaluate_corpus=str(tmp_path / "corpsu.csv")))


def same_sides(recipe, tmp_path):
    held = [Pair(copied(n), copied(n), split="held_out") for n in range(8)]
    write_pairs([*(Pair(copied(100 + n), copied(200 + n)) for n in range(40)), *held], tmp_path / "pairs.parquet")
    return recipe


def test_held_out_rows_of_equal_sides_are_refused_before_the_first_step(recipe, tmp_path, monkeypatch):
    train(recipe.model_copy(deep=True), show_progress=False)
    before = sorted((tmp_path / "model-checkpoints").iterdir())
    recipe = same_sides(recipe, tmp_path)
    monkeypatch.setattr("udever.training.run.Trainer.prepare", None)
    told = "8 pairs make no query that can be scored, .*two different texts, or set watch.evaluate_queries = 0"
    for refuse in (lambda: train(recipe, restart=True, show_progress=False), lambda: plan(recipe)):
        with pytest.raises(DataError, match=told):
            refuse()
    assert sorted((tmp_path / "model-checkpoints").iterdir()) == before
    monkeypatch.undo()
    assert plan(watching(recipe, evaluate_queries=0)).num_steps
    rows = [Pair(copied(n), copied(n), split="held_out", group=f"{n // 2}") for n in range(8)]
    write_pairs([*(Pair(copied(100 + n), copied(200 + n)) for n in range(40)), *rows], tmp_path / "pairs.parquet")
    assert plan(recipe).num_steps and held_out(recipe).measure().num_queries == 8


def test_the_plan_refuses_a_corpus_that_the_run_would_refuse(recipe, tmp_path):
    with pytest.raises(DataError, match=r"watch\.evaluate_corpus: .*none\.csv is not a file"):
        plan(watching(recipe, evaluate_corpus=str(tmp_path / "none.csv")))


def test_the_held_out_loss_is_that_of_the_rows_in_even_batches(recipe, base, tools, monkeypatch):
    rows = [Pair(copied(i), copied(100 + i), split="held_out") for i in range(5)]
    write_pairs([*tools.pairs[:40], *rows], recipe.data.pairs[0])
    monkeypatch.setattr(validation, "_BATCH_SIZE", 4)
    found = held_out(recipe)
    assert [len(batch.pairs) for batch in found.batches] == [2, 3]
    embedder = load_base(recipe.model)
    each = [held_out_loss(embedder, [batch], found.loss) for batch in found.batches]
    assert held_out_loss(embedder, found.batches, found.loss) == pytest.approx((2 * each[0] + 3 * each[1]) / 5)


def test_queries_are_shared_out_among_datasets_that_hold_rows_out(recipe, tools, tmp_path):
    for name in "ab":
        write_pairs([Pair(copied(i), f"{name} answer {i}") for i in range(10)], tmp_path / f"{name}.parquet")
    files = [*recipe.data.pairs, *(str(tmp_path / f"{name}.parquet") for name in "ab")]
    several = recipe.model_copy(update={"data": recipe.data.model_copy(update={"pairs": files})})
    assert len(held_out(watching(several, evaluate_queries=12)).pairs) == 12


@pytest.mark.parametrize(
    ("start", "end", "bm25", "says"),
    [
        (0.2, 0.5, 0.4, "BM25 0.400, the start 0.200, the end 0.500"),
        (0.2, 0.3, 0.4, "the end 0.300: the run ended below BM25"),
        (0.6, 0.5, 0.4, "the end 0.500: the run ended below the start"),
        (0.6, 0.3, 0.4, "the end 0.300: the run ended below BM25 and below the start"),
    ],
)
def test_a_run_says_where_it_ended(start, end, bm25, says):
    measure = Measure(9, 70, "all positives", {"mrr@10": bm25})
    last = StepRecord(8, 0.5, 1e-3, 1.0, 8, 64, 0.1, "pairs")
    history = History([last], 1, 0, [(0, {"mrr@10": start}), (8, {"mrr@10": end})], measure)
    assert history.outcome.startswith("MRR@10 of 9 held-out queries among 70 candidates (all positives): ")
    assert history.outcome.endswith(says)
    assert replace(history, scores=history.scores[:1]).outcome is None, "its end was not scored"
    assert History([], 1, 0).outcome is None


def test_tensorboard_reads_the_events(recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = train(recipe, show_progress=False)
    events = EventAccumulator(str(tmp_path / "model-checkpoints" / "tensorboard"))
    events.Reload()
    written = [event.value for event in events.Scalars("train/loss")]
    assert written == pytest.approx([step.loss for step in history.steps])
    assert len(events.Scalars("scores/held-out loss")) == 3


def test_a_figure_of_one_step_is_drawn():
    step = StepRecord(1, 2.5, 1e-3, 1.0, 8, 100, 0.1, "a <b>")
    assert "2.5" in figure(History([step], 1, 0, [(1, {"a<b": 0.5})]))
    assert "a&lt;b" in figure(History([step], 1, 0, [(1, {"a<b": 0.5})]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans(), st.sampled_from(FORMS)), min_size=6))
def test_no_text_of_a_training_row_is_scored(recipe, tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("leaks") / "pairs.parquet"
    pairs = [
        Pair(form.format(copied(a)), form.format(copied(20 + b)), split="held_out" if held else "train")
        for a, b, held, form in rows
    ]
    plain = [Pair(copied(50 + i), copied(60 + i), split=split) for i, split in enumerate(["train", "held_out"] * 2)]
    write_pairs([*pairs, *plain], path)
    leaky = recipe.model_copy(update={"data": recipe.data.model_copy(update={"pairs": [str(path)]})})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        scored = held_out(leaky).pairs
    trained = [pair for pair in [*pairs, *plain] if pair.split == "train"]
    assert {pair.anchor for pair in scored} & {pair.anchor for pair in plain if pair.split == "held_out"}
    for side in ("anchor", "positive"):
        numbers = [{re.findall(r"w(\d+)x", getattr(pair, side))[0] for pair in some} for some in (scored, trained)]
        assert not numbers[0] & numbers[1]


def test_held_out_rows_that_repeat_training_rows_are_told(recipe, tmp_path):
    rows = [Pair(copied(i), copied(20 + i)) for i in range(4)]
    held = [Pair(copied(i).upper(), copied(40 + i), split="held_out") for i in range(2, 8)]
    write_pairs([*rows, *held], tmp_path / "pairs.parquet")
    with pytest.warns(LeakWarning, match="2 of 6 held-out rows repeat texts of training rows"):
        found = held_out(recipe)
    assert len(found.pairs) == 4
