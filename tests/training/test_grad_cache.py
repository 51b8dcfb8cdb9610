"""Micro-batches change nothing but memory: the same loss and gradients for every budget, tuning and backbone."""

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udever import Embedder
from udever.errors import ModelError
from udever.model.adapters import apply_tuning
from udever.pairs.mixture import Batch
from udever.pairs.schema import Pair
from udever.pairs.sources import Traits
from udever.training import memory
from udever.training.grad_cache import GradCache
from udever.training.loop import use_gradient_checkpointing
from udever.training.memory import Budget, is_out_of_memory, saved_bytes
from udever.training.recipe import LossSettings

WORDS = ["add", "two", "numbers", "hello", "world", "sum", "of", "what", "is", "the", "def", "return"]
EVERYTHING = LossSettings(
    margin=0.2, anchor_anchor=True, document_document=True, matryoshka=[32, 8], distillation=0.5, focal_gamma=0.3
)


@st.composite
def batches(draw):
    text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
    kind = st.sampled_from(["symmetric", "asymmetric", "classification"])
    pairs = []
    for _ in range(draw(st.integers(2, 6))):
        negatives = tuple(dict.fromkeys(draw(st.lists(text, max_size=2))))
        scores = (0.9, *[0.3] * len(negatives)) if draw(st.booleans()) else None
        label = draw(st.sampled_from([None, "a", "b"]))
        pairs.append(Pair(draw(text), draw(text), negatives, kind=draw(kind), label=label, scores=scores))
    traits = [Traits("d", in_batch_negatives=draw(st.booleans())) for _ in pairs]
    return Batch(0, tuple(pairs), tuple(traits))


def double(embedders_folder, **changes):
    """The model in float64, where any difference but rounding shows."""
    embedder = Embedder.load(embedders_folder, dtype="float32", **changes)
    embedder.backbone.double()
    return embedder


@pytest.fixture(scope="module", params=["bloom", "qwen3", "gpt_neox", "falcon"])
def exact(request, decoders):
    return double(decoders(request.param))


@given(batch=batches(), batch_tokens=st.integers(1, 60), kept=st.sampled_from([0, 20, 60]))
def test_cached_is_uncached(exact, tools, batch, batch_tokens, kept):
    whole, expected = tools.gradients(exact, batch, loss=EVERYTHING)
    cached, found = tools.gradients(exact, batch, Budget(batch_tokens, kept), EVERYTHING)
    assert whole.kept_all
    assert cached.loss == pytest.approx(whole.loss, rel=1e-10)
    tools.assert_close(found, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
def test_cached_is_uncached_with_other_poolings_and_instructions(decoders, tools, pooling):
    embedder = double(decoders("bloom"), pooling=pooling)
    pairs = [Pair(pair.anchor, pair.positive, ("what is", "the sum")) for pair in tools.pairs[:6]]
    batch = Batch(0, tuple(pairs), (Traits("d", instruction="find it", document_instruction="code"),) * 6)
    whole, expected = tools.gradients(embedder, batch)
    cached, found = tools.gradients(embedder, batch, Budget(20, 0))
    assert cached.loss == pytest.approx(whole.loss, rel=1e-10)
    tools.assert_close(found, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gpt_neox"])
def test_packed_is_padded_in_training_too(decoders, tools, family):
    """The same weights through transformers' own padded forward pass: the same loss and gradients."""
    from udever.model.decoders import PaddedModel

    packed, padded = double(decoders(family)), double(decoders(family))
    from transformers import AutoModel

    own = AutoModel.from_pretrained(decoders(family)).double().eval()
    padded.backbone = PaddedModel(own)
    batch = tools.mixture(tools.pairs[:8], 8).batch(0)
    ours, found = tools.gradients(packed, batch, Budget(30, 0))
    theirs, expected = tools.gradients(padded, batch)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    strip = lambda gradients: {name.removeprefix("model."): g for name, g in gradients.items()}  # noqa: E731
    tools.assert_close(strip(found), strip(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gpt_neox"])
def test_checkpointed_layers_give_the_same_gradients_and_save_less(decoders, tools, family):
    embedder = double(decoders(family))
    batch = tools.mixture(tools.pairs[:8], 8).batch(0)
    ids = [list(ids) for ids in embedder.tokenize(["hello world " * 20], "query").ids]
    embedder.backbone.train()
    _, expected = tools.gradients(embedder, batch)
    before = saved_bytes(lambda: embedder.embed_tokens(ids))
    use_gradient_checkpointing(embedder.backbone)
    _, found = tools.gradients(embedder, batch, Budget(30, 0))
    tools.assert_close(found, expected, rtol=1e-7, atol=1e-10)
    assert saved_bytes(lambda: embedder.embed_tokens(ids)) < before


def test_dropout_is_the_same_in_the_second_forward_pass(decoders, tools):
    """With dropout the cached gradient is that of the embeddings the loss saw, not of others."""
    embedder = double(decoders("bloom"))
    apply_tuning(embedder.backbone, "lora", lora_rank=4, lora_dropout=0.5)
    with torch.no_grad():
        for name, parameter in embedder.backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    embedder.backbone.train()
    batch = tools.mixture(tools.pairs[:8], 8).batch(0)
    torch.manual_seed(3)
    whole, expected = tools.gradients(embedder, batch, Budget(25, 10**6))
    torch.manual_seed(3)
    cached, found = tools.gradients(embedder, batch, Budget(25, 0))
    assert cached.loss == pytest.approx(whole.loss, rel=1e-10)
    tools.assert_close(found, expected, rtol=1e-7, atol=1e-10)


def test_each_distinct_text_is_embedded_once(embedder, tools):
    repeated = Batch(0, (tools.pairs[0],) * 5, (Traits("d"),) * 5)
    five, _ = tools.gradients(embedder, repeated)
    two, _ = tools.gradients(embedder, Batch(0, tools.pairs[:1] * 2, (Traits("d"),) * 2))
    assert five.num_tokens == two.num_tokens


def test_what_fits_is_run_once_and_the_rest_twice():
    runs = []

    def embed(indices):
        runs.append((tuple(indices), torch.is_grad_enabled()))
        return torch.ones(len(indices), 2, requires_grad=True)

    cache = GradCache(embed, [5, 4, 3, 2], Budget(batch_tokens=5, kept_tokens=8))
    cache.forward()
    cache.backward(torch.ones(4, 2))
    forward = [((0,), False), ((1,), True), ((2, 3), True)]
    assert runs == [forward[0], ((1,), False), ((2, 3), True), ((1,), True), ((0,), True)]


def test_memory_that_runs_out_halves_the_plan_once_and_changes_no_gradient(embedder, tools, monkeypatch):
    batch = tools.mixture(tools.pairs[:8], 8).batch(0)
    expected = tools.gradients(embedder, batch)
    plain = embedder.embed_tokens
    largest = []

    def short_of_memory(ids, skip=0):
        tokens = sum(map(len, ids))
        if tokens > 40 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("out of memory")
        largest.append(tokens)
        return plain(ids, skip)

    monkeypatch.setattr(embedder, "embed_tokens", short_of_memory)
    budget = Budget(60, 0)
    outcome, found = tools.gradients(embedder, batch, budget)
    assert (budget.batch_tokens, budget.shrunk) == (30, True)
    assert outcome.loss == pytest.approx(expected[0].loss, rel=1e-5)
    tools.assert_close(found, expected[1], rtol=1e-4, atol=1e-6)
    with pytest.raises(ModelError, match="memory ran out twice, last with 60 tokens"):
        tools.gradients(embedder, batch, Budget(120, 0))


def test_a_plan_says_what_fits():
    plan = Budget.from_memory(1.3e9, 1e6, 2048)
    assert (plan.batch_tokens, plan.kept_tokens) == (1000, 1000)
    with pytest.raises(ModelError, match=r"raise training\.memory_gb"):
        Budget.from_memory(1e6, 1e6, 2048)
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))


@pytest.mark.parametrize(("per_token", "tokens"), [(5e5, 2048), (5e4, 5000), (5e3, 32_768)])
def test_small_models_take_larger_micro_batches(embedder, tools, monkeypatch, per_token, tokens):
    monkeypatch.setattr(memory, "bytes_per_token", lambda *_: per_token)
    assert memory.plan_budget(embedder, tools.settings(memory_gb=9.0), tools.mixture()).batch_tokens == tokens
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_loss_and_gradients_are_those_of_sentence_transformers_cached_loss(decoders, tools, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    plain = Embedder.load(decoders("bloom"), dtype="float32")
    plain.save(tmp_path / "model")
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu", model_kwargs={"dtype": torch.float32})
    batch = tools.mixture(tools.pairs[:12], 12).batch(0)
    ours, found = tools.gradients(Embedder.load(tmp_path / "model", dtype="float32"), batch, Budget(40, 0))
    loss_of = CachedMultipleNegativesRankingLoss(theirs, scale=20.0, mini_batch_size=4)
    columns = [[pair.anchor for pair in batch.pairs], [pair.positive for pair in batch.pairs]]
    loss = loss_of([theirs.preprocess(column) for column in columns], torch.arange(12))
    loss.backward()
    assert ours.loss == pytest.approx(loss.item(), rel=1e-5)
    inner = theirs[0].auto_model
    expected = {name.removeprefix("transformer."): p.grad for name, p in inner.named_parameters()}
    tools.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_what_is_measured_for_a_plan_is_let_go():
    weight = torch.nn.Parameter(torch.ones(3))
    alive = weakref.ref(weight)
    assert saved_bytes(lambda: (weight * 2).exp().sum()) == 12
    del weight
    gc.collect()
    assert alive() is None, "a graph that saves its own output holds itself"
