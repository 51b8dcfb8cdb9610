import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from udever import Embedder
from udever.loading import resolve
from udever.model import products
from udever.model.attention import attention_over
from udever.model.bloom import Bloom, alibi_slopes, init_weights
from udever.model.configuration import BloomConfig, stored_dtype
from udever.model.decoders import PackedDecoder
from udever.model.llama import LlamaShaped
from udever.model.packing import pack

LENGTHS = (9, 9, 8, 7, 30, 1, 130)


def sequences():
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, 420, (length,), generator=generator).tolist() for length in LENGTHS]


@pytest.mark.parametrize("after_norm", [False, True])
@pytest.mark.parametrize("num_heads", [1, 2, 3, 6, 8, 12])
def test_parity_with_transformers(num_heads, after_norm, make, alone):
    model = make.model("bloom", hidden_size=48, n_head=num_heads, apply_residual_connection_post_layernorm=after_norm)
    native = Bloom(model.config).eval()
    native.load_state_dict(model.state_dict(), strict=True)
    packed = pack(sequences())
    with torch.inference_mode():
        expected = torch.cat([alone(model, ids) for ids in sequences()])
        actual = native(attention_over(packed, causal=True))
        closing = native(attention_over(packed, causal=True), last_only=True)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(closing, expected[packed.last], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 8, 12, 16, 25, 112])
def test_slopes_are_transformers(num_heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    alibi = build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)  # [heads, 1, 2]
    torch.testing.assert_close(alibi_slopes(num_heads), alibi[:, 0, 1])


def test_fresh_weights_come_from_the_seed_alone(make):
    def fresh(seed):
        model = Bloom(make.config("bloom"))
        init_weights(model, seed)
        return model.state_dict()

    first, again, other = fresh(1), fresh(1), fresh(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["word_embeddings.weight"], other["word_embeddings.weight"])
    assert first["h.0.mlp.dense_h_to_4h.bias"].abs().sum() == 0


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=12), min_size=1, max_size=9),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_the_last_layer_learns_without_keys_and_values_what_it_would_with_them(texts, num_heads, num_layers, causal):
    """While it is trained, the closing tokens ask the inputs themselves: the same vectors, the same gradients."""
    model = Bloom(BloomConfig(vocab_size=50, hidden_size=24, n_layer=num_layers, n_head=num_heads)).double()
    init_weights(model, 0)
    for parameter in model.parameters():  # large enough that attention is far from even
        parameter.data.mul_(10 if parameter.ndim == 2 else 1).add_(0.1)
    packed, found = pack(texts), []
    for training in (False, True):
        model.train(training).zero_grad()
        vectors = model(attention_over(packed, causal=causal), last_only=True)
        vectors.square().mul(torch.linspace(0, 1, 24)).sum().backward()
        found.append([vectors.detach(), *(p.grad.clone() for p in model.parameters())])
    torch.testing.assert_close(found[1], found[0])


def test_the_last_layer_makes_no_keys_while_it_learns(monkeypatch):
    model = Bloom(BloomConfig(vocab_size=50, hidden_size=24, n_layer=1, n_head=2))
    widths, linear = [], products.linear
    monkeypatch.setattr(products, "linear", lambda layer, x: widths.append(len(layer.weight)) or linear(layer, x))
    model.train()(attention_over(pack([[1, 2, 3]]), causal=True), last_only=True)
    assert 3 * 24 not in widths
    model.train()(attention_over(pack([[1, 2, 3]]), causal=True))
    assert 3 * 24 in widths


def padded_gradients(model, ids, weights, pooling):
    """What a plain padded implementation gives: gradients of sum(weights * pooled vectors)."""
    lengths = torch.tensor([len(one) for one in ids])
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(one) for one in ids], batch_first=True)
    mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
    hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    if pooling == "last":
        pooled = hidden[torch.arange(len(ids)), lengths - 1]
    else:
        share = mask * torch.arange(1, tokens.shape[1] + 1)
        pooled = (hidden * share[..., None]).sum(1) / share.sum(1)[:, None]
    (pooled * weights).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pooling", ["last", "weighted_mean"])
@pytest.mark.parametrize(("family", "kind"), [("bloom", Bloom), ("qwen3", LlamaShaped), ("gpt_neox", PackedDecoder)])
def test_gradients_are_those_of_a_padded_implementation(family, kind, pooling, dtype, decoders):
    ids = [one[:40] for one in sequences()]
    weights = torch.randn(len(ids), 32, generator=torch.Generator().manual_seed(4))
    model = AutoModel.from_pretrained(decoders(family), dtype=torch.float64).eval()
    expected = padded_gradients(model, ids, weights, pooling)

    embedder = Embedder.load(decoders(family), dtype=dtype, device="cpu", pooling=pooling)
    assert isinstance(embedder.backbone, kind)
    (embedder.embed_tokens(ids) * weights).sum().backward()
    inner = getattr(embedder.backbone, "model", embedder.backbone)
    actual = {name: parameter.grad.double() for name, parameter in inner.named_parameters()}
    assert actual.keys() == expected.keys()
    for (
        name,
        gradient,
    ) in actual.items():  # a key's bias shifts all scores alike: its gradient is noise about 0
        scale = max(float(expected[name].norm()), 1e-2)
        assert float((gradient - expected[name]).norm()) < scale * (1e-3 if dtype == "float32" else 1e-5), name


def test_the_precision_it_is_stored_in_is_one_to_store_in():
    assert stored_dtype(resolve("seedling")) == torch.bfloat16
