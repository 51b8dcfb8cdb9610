"""The loop: gradients, what moves, schedules, and that it learns."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from udever import Embedder
from udever.errors import DataError, ModelError
from udever.pairs.mixture import Batch
from udever.pairs.schema import Pair
from udever.pairs.sources import Traits
from udever.processors import BusyWarning
from udever.training import loop, tuning
from udever.training.card import notes, results
from udever.training.log import Log, Measure, ScoresWarning
from udever.training.loop import Keeping, Trainer, rate_factor
from udever.training.objectives import LossSettings
from udever.training.recipe import ModelSettings, Recipe, TrainingSettings, WatchSettings
from udever.training.run import load_base


def batch_of(*pairs):
    return Batch(0, pairs, (Traits("pairs"),) * len(pairs))


def test_the_fresh_base_carries_the_papers_markers(embedder):
    contract = embedder.contract
    ids = embedder.tokenizer.hf.convert_tokens_to_ids(["[BOQ]", "[EOQ]", "[BOD]", "[EOD]"])
    roles = (contract.query, contract.document)
    assert [i for role in roles for i in (*role.prefix_ids, *role.suffix_ids)] == ids
    assert contract.symmetric == contract.query


def test_training_lowers_the_loss_and_changes_the_fingerprint(embedder, tools):
    before = embedder.fingerprint
    history = tools.finetune(embedder, tools.mixture(), tools.settings())
    losses = [step.loss for step in history.steps]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert embedder.fingerprint != before
    assert len(losses) == 3 * tools.mixture().batches_per_epoch


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(base, tools):
    def trained(seed):
        embedder = load_base(ModelSettings(base=str(base), max_length=32))
        tools.finetune(embedder, tools.mixture(seed=seed), tools.settings(max_steps=3, seed=seed))
        return embedder.fingerprint

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_a_run_that_others_slow_down_says_so(embedder, tools, monkeypatch):
    monkeypatch.setattr(loop.Company, "joins", lambda self, seconds, tokens: seconds > 0 and tokens > 0)
    with pytest.warns(BusyWarning, match="go on with --resume to choose anew"):
        tools.finetune(embedder, tools.mixture(), tools.settings(max_steps=1))


@pytest.mark.parametrize("token_cache_gb", [0.0, 0.1])
def test_texts_are_cut_for_training_alone(embedder, base, tools, token_cache_gb):
    """What training computes is what a model of that length would; the model keeps its own."""
    short = load_base(ModelSettings(base=str(base), max_length=6))
    expected = tools.finetune(short, tools.mixture(), tools.settings(max_steps=3))
    own = embedder.contract
    settings = tools.settings(max_steps=3, max_length=6, token_cache_gb=token_cache_gb)
    history = tools.finetune(embedder, tools.mixture(), settings)
    assert [step.loss for step in history.steps] == [step.loss for step in expected.steps]
    assert history.num_truncated == expected.num_truncated > 0
    assert embedder.contract == own and own.max_length == 32
    assert len(embedder.tokenize(["word " * 100], "document").ids[0]) == 32


@pytest.mark.parametrize("tuning", ["bitfit", "lora"])
def test_only_what_the_tuning_names_moves(embedder, tuning, tools):
    before = {name: p.detach().clone() for name, p in embedder.backbone.named_parameters()}
    tools.finetune(embedder, tools.mixture(), tools.settings(tuning=tuning, max_steps=2))
    moved = {name for name, p in embedder.backbone.named_parameters() if name in before and not p.equal(before[name])}
    if tuning == "bitfit":
        assert moved
        assert all(name.endswith("bias") for name in moved)
    else:
        assert not moved
        assert any("lora_B" in name and bool(p.any()) for name, p in embedder.backbone.named_parameters())


@pytest.mark.parametrize(("layers", "picked"), [(6, "full"), (15, "lora"), (18, "lora")])
def test_auto_takes_low_ranks_for_most_of_gemma_3_270m(layers, picked):
    shape = {"hidden_size": 640, "intermediate_size": 2048, "num_attention_heads": 4, "num_key_value_heads": 1}
    config = AutoConfig.for_model("gemma3_text", **shape, head_dim=256, vocab_size=64, num_hidden_layers=layers)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert tuning.pick_tuning(model, TrainingSettings()) == picked


def test_auto_moves_all_of_a_small_backbone_and_low_ranks_of_a_large_one(embedder, decoders, tools, monkeypatch):
    history = tools.finetune(embedder, tools.mixture(), tools.settings(tuning="auto", max_steps=1))
    assert history.num_trainable == sum(p.numel() for p in embedder.backbone.parameters())
    # The table of tokens does not count: a large vocabulary makes no large model.
    table = embedder.backbone.word_embeddings.weight.numel()
    monkeypatch.setattr(tuning, "LARGE", history.num_trainable - table + 1)
    assert tuning.pick_tuning(embedder.backbone, tools.settings(tuning="auto")) == "full"
    monkeypatch.setattr(tuning, "LARGE", history.num_trainable - table)
    assert tuning.pick_tuning(embedder.backbone, tools.settings(tuning="auto")) == "lora"
    assert tuning.pick_tuning(embedder.backbone, tools.settings(tuning="bitfit")) == "bitfit"
    with pytest.raises(ModelError, match="lora"):
        tools.finetune(
            Embedder.load(decoders("llama"), dtype="float32"), tools.mixture(), tools.settings(tuning="bitfit")
        )


def test_gradients_of_a_batch_are_those_of_a_padded_transformers_model(decoders, alone, tools):
    """Loss and gradients against transformers' BLOOM, text by text, and a plain cross-entropy."""
    from transformers import AutoModel

    folder = decoders("bloom")
    ours = Embedder.load(folder, dtype="float32")
    pairs = [Pair("add two numbers", "def add(a, b): return a + b"), Pair("hello", "hello world", ("other",))]
    outcome, found = tools.gradients(ours, batch_of(*pairs))
    theirs = AutoModel.from_pretrained(folder)

    def vector(text):
        ids = ours.tokenize([text], "query").ids[0]
        return torch.nn.functional.normalize(alone(theirs, ids)[-1], dim=0)

    queries = torch.stack([vector(pair.anchor) for pair in pairs])
    documents = torch.stack([vector(text) for text in [*(pair.positive for pair in pairs), "other"]])
    expected = torch.nn.functional.cross_entropy(queries @ documents.T / 0.05, torch.arange(2))
    expected.backward()
    assert outcome.loss == pytest.approx(expected.item(), rel=1e-4)
    tools.assert_close(found, {name: p.grad for name, p in theirs.named_parameters()}, rtol=1e-3, atol=1e-4)


def test_symmetric_pairs_carry_query_markers_on_both_sides(embedder, tools):
    pairs = [Pair("one text", "another text", kind="symmetric"), Pair("third", "fourth", kind="symmetric")]
    flipped = [Pair(pair.positive, pair.anchor, kind="symmetric") for pair in pairs]
    one, _ = tools.gradients(embedder, batch_of(*pairs))
    two, _ = tools.gradients(embedder, batch_of(*flipped))
    assert one.loss == pytest.approx(two.loss, rel=1e-5)


def test_instructions_of_a_dataset_reach_the_sides_they_are_for(embedder, tools):
    pairs = (Pair("one text", "another text"), Pair("third", "fourth"))

    def loss(**traits):
        outcome, _ = tools.gradients(embedder, Batch(0, pairs, (Traits("d", **traits),) * 2))
        return outcome.loss, outcome.num_tokens

    plain, asked, both = loss(), loss(instruction="find code"), loss(instruction="a", document_instruction="a code")
    assert len({plain[0], asked[0], both[0]}) == 3
    assert plain[1] < asked[1]


def test_schedules(tools):
    constant, cosine = tools.settings(warmup=0.1), tools.settings(warmup=0.1, schedule="cosine")
    assert rate_factor(0, 100, constant) == pytest.approx(1 / 11)
    assert rate_factor(10, 100, constant) == rate_factor(99, 100, constant) == 1.0
    assert rate_factor(10, 100, cosine) == 1.0
    assert rate_factor(55, 100, cosine) == pytest.approx(0.5)
    assert rate_factor(99, 100, cosine) < 0.01
    tail = tools.settings(warmup=0.1, decay=0.3)
    assert rate_factor(10, 100, tail) == rate_factor(69, 100, tail) == 1.0
    assert rate_factor(70, 100, tail) == pytest.approx(30 / 31)
    assert rate_factor(99, 100, tail) == pytest.approx(1 / 31)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"decay": 0.2, "schedule": "cosine"}, 'cosine", which falls by itself'),
        ({"warmup": 0.7, "decay": 0.6}, "warmup and decay are 1.3 of the steps together; at most 1"),
    ],
)
def test_a_schedule_that_cannot_be(tools, wrong, says):
    with pytest.raises(ValueError, match=says):
        tools.settings(**wrong)


def test_parts_move_at_rates_of_their_own(embedder, tools):
    given = tools.settings(rates={"*.bias": 0.5, "word_embeddings.*": 2.0}, warmup=0.0, beta2=0.98)
    trainer = Trainer.prepare(embedder, tools.mixture(), given, LossSettings())
    before = {name: p.detach().clone() for name, p in embedder.backbone.named_parameters()}
    trainer.step(0)
    # AdamW's first step moves every weight that has a gradient by the rate, less what decay takes of matrices.
    moved = {n: (p.detach() - before[n]).abs().max().item() for n, p in embedder.backbone.named_parameters()}
    assert moved["word_embeddings.weight"] == pytest.approx(2 * 3e-3, rel=0.02)
    assert moved["ln_f.bias"] == pytest.approx(0.5 * 3e-3, rel=0.02)
    assert moved["ln_f.weight"] == pytest.approx(3e-3, rel=0.02)
    assert {group["betas"] for group in trainer.optimizer.param_groups} == {(0.9, 0.98)}


def test_a_rate_for_a_part_that_is_not_there(embedder, tools):
    with pytest.raises(ModelError, match=r"training\.rates names 'word_embedding\.weight'.*'word_embeddings\.weight'"):
        Trainer.prepare(embedder, tools.mixture(), tools.settings(rates={"word_embedding.weight": 2.0}), LossSettings())


def test_averages_are_what_is_scored_and_kept(embedder, tools, tmp_path):
    """After each step the average keeps its share, less at first; the steps themselves go on from the last weights."""
    trainer = Trainer.prepare(embedder, tools.mixture(), tools.settings(average=0.6, max_steps=8), LossSettings())
    weight, plain = embedder.backbone.ln_f.weight, trainer.step
    expected, last = [weight.detach().clone()], [weight.detach().clone()]
    scored = []

    def step(number):
        torch.testing.assert_close(weight.detach(), last[-1], rtol=0, atol=0)
        found = plain(number)
        last.append(weight.detach().clone())
        expected.append(expected[-1].lerp(last[-1], 1 - min(0.6, (number + 1) / (number + 10))))
        return found

    class Evaluate:
        def scores(self, embedder):
            scored.append(embedder.backbone.ln_f.weight.detach().clone())
            return {}

        def measure(self):
            return Measure(0, 0, "", {})

    trainer.step = step
    trainer.run(Log(), Keeping(tmp_path, {}, WatchSettings(evaluate_every=4)), Evaluate())
    torch.testing.assert_close(scored, [expected[0], expected[4], expected[8]])
    torch.testing.assert_close(weight.detach(), expected[8])


def test_a_resumed_run_that_measures_otherwise_drops_the_scores_before(base, tools, tmp_path):
    class Evaluate:
        def __init__(self, candidates):
            self.candidates = candidates

        def scores(self, embedder):
            return {"mrr@10": 1 / self.candidates}

        def measure(self):
            return Measure(4, self.candidates, "a sample", {"mrr@10": 0.5})

    recipe = Recipe.model_validate({"model": {"base": ""}, "data": {"pairs": ["a"]}, "output": {"folder": "a"}})

    def run(evaluate, max_steps):
        given = tools.settings(max_steps=max_steps)
        embedder = load_base(ModelSettings(base=str(base), max_length=32))
        keeping = Keeping(tmp_path, {}, WatchSettings(evaluate_every=1), resume=True)
        trainer = Trainer.prepare(embedder, tools.mixture(), given, LossSettings())
        with Log.open(tmp_path, recipe, enabled=True) as log:
            return trainer.run(log, keeping, evaluate)

    run(Evaluate(10), 1)
    assert [step for step, _ in run(Evaluate(10), 2).scores] == [0, 1, 2]
    with pytest.warns(ScoresWarning, match=r"earlier scores \(3\) leave the log"):
        history = run(Evaluate(20), 3)
    assert history.scores == [(3, {"mrr@10": 0.05})]
    assert history.outcome.endswith(
        "among 20 candidates (a sample): BM25 0.500, the end 0.050: the run ended below BM25"
    )
    assert run(None, 3).scores == [(3, {"mrr@10": 0.05})]
    history = run(None, 4)
    assert history.scores == [(3, {"mrr@10": 0.05})] and history.outcome is None
    assert results(history) == [] and "The end was not scored" in notes(recipe, history, [])


def test_what_cannot_be_trained_is_refused(embedder, base, tools):
    with pytest.raises(DataError, match="at least 2"):
        tools.finetune(embedder, tools.mixture(tools.pairs[:1]), tools.settings())
    with pytest.raises(ModelError, match="float32"):
        tools.finetune(Embedder.load(base, dtype="bfloat16"), tools.mixture(), tools.settings())
    with pytest.raises(ModelError, match=r"training.max_length is 33 and the model reads 32 tokens"):
        tools.finetune(embedder, tools.mixture(), tools.settings(max_length=33))
    with pytest.raises(ModelError, match=r"loss is nan in batch 0 \(pairs; it begins '"):
        embedder.backbone.ln_f.weight.data.fill_(float("nan"))
        tools.finetune(embedder, tools.mixture(), tools.settings())


def test_more_first_dimensions_than_there_are_are_refused(embedder, tools):
    with pytest.raises(ModelError, match=r"loss\.matryoshka has 64 and the model 32 dimensions; give sizes below that"):
        Trainer.prepare(embedder, tools.mixture(), tools.settings(), LossSettings(matryoshka=[16, 64]))
    Trainer.prepare(embedder, tools.mixture(), tools.settings(), LossSettings(matryoshka=[16, 32]))


def test_a_gradient_that_overflows_stops_the_run_before_the_weights_move(embedder, tools):
    before = embedder.backbone.word_embeddings.weight.clone()
    embedder.backbone.word_embeddings.weight.register_hook(lambda g: g * float("inf"))
    with pytest.raises(ModelError, match=r"gradient's norm is (nan|inf) in batch 0"):
        tools.finetune(embedder, tools.mixture(), tools.settings())
    assert embedder.backbone.word_embeddings.weight.equal(before)
