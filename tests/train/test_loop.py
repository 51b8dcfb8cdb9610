"""The loop: gradients, what moves, schedules, and that it learns."""

import pytest
import torch

from udever import Embedder
from udever.config import ModelSettings, TrainingSettings
from udever.data.pairs import Pair
from udever.errors import DataError, ModelError
from udever.train.batches import make_batch
from udever.train.fresh import make_base
from udever.train.loop import batch_loss, finetune, num_steps, rate_factor
from udever.train.recipe import load_base

VERBS = ["copy", "parse", "split", "read", "sort", "hash", "open", "join"]
NOUNS = ["tree", "date", "shell", "lines", "keys", "file", "socket", "path"]
PAIRS = [Pair(f"{a} the {b}", f"def {a}_{b}(): return {b}.{a}()") for a in VERBS for b in NOUNS]


@pytest.fixture(scope="module")
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


def test_the_fresh_base_carries_the_papers_markers(embedder):
    contract = embedder.contract
    ids = embedder.tokenizer.hf.convert_tokens_to_ids(["[BOQ]", "[EOQ]", "[BOD]", "[EOD]"])
    roles = (contract.query, contract.document)
    assert [i for role in roles for i in (*role.prefix_ids, *role.suffix_ids)] == ids
    assert contract.symmetric == contract.query


def test_training_lowers_the_loss_and_changes_the_fingerprint(embedder):
    before = embedder.fingerprint
    history = finetune(embedder, PAIRS, settings())
    losses = [step.loss for step in history.steps]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert embedder.fingerprint != before
    assert len(losses) == num_steps(PAIRS, settings())


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(base):
    def trained(seed):
        embedder = load_base(ModelSettings(base=str(base), max_length=32))
        finetune(embedder, PAIRS, settings(max_steps=3, seed=seed))
        return embedder.fingerprint

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


@pytest.mark.parametrize("tuning", ["bitfit", "lora"])
def test_only_what_the_tuning_names_moves(embedder, tuning):
    before = {name: p.detach().clone() for name, p in embedder.backbone.named_parameters()}
    finetune(embedder, PAIRS, settings(tuning=tuning, max_steps=2))
    moved = {name for name, p in embedder.backbone.named_parameters() if name in before and not p.equal(before[name])}
    if tuning == "bitfit":
        assert moved
        assert all(name.endswith("bias") for name in moved)
    else:
        assert not moved
        assert any("lora_B" in name and bool(p.any()) for name, p in embedder.backbone.named_parameters())


def test_auto_is_bitfit_with_biases_and_lora_without(embedder, decoders):
    history = finetune(embedder, PAIRS, settings(tuning="auto", max_steps=1))
    assert history.num_trainable == sum(
        p.numel() for n, p in embedder.backbone.named_parameters() if n.endswith("bias")
    )
    without = Embedder.load(decoders("qwen3"), dtype="float32")
    finetune(without, PAIRS, settings(tuning="auto", max_steps=1))
    assert any("lora_A" in name for name, _ in without.backbone.named_parameters())
    with pytest.raises(ModelError, match="lora"):
        finetune(Embedder.load(decoders("llama"), dtype="float32"), PAIRS, settings(tuning="bitfit"))


def test_gradients_of_a_batch_are_those_of_a_padded_transformers_model(decoders, alone):
    """Loss and gradients against transformers' BLOOM, text by text, and a plain cross-entropy."""
    from transformers import AutoModel

    folder = decoders("bloom")
    ours = Embedder.load(folder, dtype="float32")
    batch = make_batch([Pair("add two numbers", "def add(a, b): return a + b"), Pair("hello", "hello world", "other")])
    loss, _, _ = batch_loss(ours, batch, 0.05)
    loss.backward()

    theirs = AutoModel.from_pretrained(folder)

    def vector(text):
        ids = ours.tokenize([text], "query").ids[0]
        return torch.nn.functional.normalize(alone(theirs, ids)[-1], dim=0)

    queries = torch.stack([vector(pair.anchor) for pair in batch.pairs])
    documents = torch.stack([vector(text) for text in [*(pair.positive for pair in batch.pairs), *batch.negatives]])
    expected = torch.nn.functional.cross_entropy(queries @ documents.T / 0.05, torch.arange(2))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-4)


def test_symmetric_pairs_carry_query_markers_on_both_sides(embedder):
    pair = Pair("one text", "another text", kind="symmetric")
    flipped = Pair("another text", "one text", kind="symmetric")
    other = Pair("third", "fourth", kind="symmetric")
    with torch.no_grad():
        loss, _, _ = batch_loss(embedder, make_batch([pair, other]), 0.05)
        same, _, _ = batch_loss(embedder, make_batch([flipped, Pair("fourth", "third", kind="symmetric")]), 0.05)
    assert loss.item() == pytest.approx(same.item(), rel=1e-5)


def test_schedules():
    constant, cosine = settings(warmup=0.1), settings(warmup=0.1, schedule="cosine")
    assert rate_factor(0, 100, constant) == pytest.approx(1 / 11)
    assert rate_factor(10, 100, constant) == rate_factor(99, 100, constant) == 1.0
    assert rate_factor(10, 100, cosine) == 1.0
    assert rate_factor(55, 100, cosine) == pytest.approx(0.5)
    assert rate_factor(99, 100, cosine) < 0.01


def test_what_cannot_be_trained_is_refused(embedder, base):
    with pytest.raises(DataError, match="at least 2"):
        finetune(embedder, PAIRS[:1], settings())
    with pytest.raises(ModelError, match="float32"):
        finetune(Embedder.load(base, dtype="bfloat16"), PAIRS, settings())
    with pytest.raises(ModelError, match="loss is nan"):
        embedder.backbone.ln_f.weight.data.fill_(float("nan"))
        finetune(embedder, PAIRS, settings())
