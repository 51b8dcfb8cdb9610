import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel

from udever.errors import ContractError, ModelError
from udever.model import backbone as backbone_module
from udever.model.attention import attention_over
from udever.model.backbone import choose, pick_dtype, self_test
from udever.model.bloom import Bloom
from udever.model.decoders import PackedDecoder, PaddedModel
from udever.model.gemma import GemmaShaped
from udever.model.llama import LlamaShaped
from udever.model.packing import pack, plan_batches

CHOSEN = {
    "bloom": Bloom,
    "llama": LlamaShaped,
    "mistral": LlamaShaped,
    "qwen2": LlamaShaped,
    "qwen3": LlamaShaped,
    "gemma3_text": GemmaShaped,
    "gpt_neox": PackedDecoder,
    "gpt2": PackedDecoder,
    "olmo2": PackedDecoder,
    "phi3": PackedDecoder,
    "opt": (PackedDecoder, PaddedModel),  # its position ids came with a later transformers
    "falcon": PaddedModel,
    "gemma2": PaddedModel,  # caps its scores, which the packed kernels do not do
    "xglm": PaddedModel,
}
SEQUENCES = st.lists(st.lists(st.integers(4, 419), min_size=1, max_size=20), min_size=1, max_size=5)


@pytest.fixture(scope="module", params=CHOSEN)
def family(request):
    return request.param


def test_a_family_gets_the_fastest_pass_that_is_right(family, embedders):
    assert isinstance(embedders(family).backbone, CHOSEN[family])


def test_batched_is_alone_is_transformers_own(family, embedders, decoders, alone):
    backbone = embedders(family).backbone
    own = AutoModel.from_pretrained(decoders(family), dtype=torch.float32).eval()

    @settings(max_examples=6)
    @given(SEQUENCES, st.integers(1, 80))
    @torch.inference_mode()
    def check(sequences, batch_tokens):
        for batch in plan_batches([len(ids) for ids in sequences], batch_tokens):
            packed = pack([sequences[i] for i in batch])
            expected = torch.cat([alone(own, sequences[i]) for i in batch])
            attention = attention_over(packed, causal=True)
            torch.testing.assert_close(backbone(attention), expected, rtol=1e-3, atol=2e-4)
            closing = backbone(attention_over(packed, causal=True), last_only=True)
            torch.testing.assert_close(closing, expected[packed.last], rtol=1e-3, atol=2e-4)

    check()


def test_a_long_text_is_transformers_own(family, embedders, decoders, alone):
    """Positions and windows far beyond what the probes at load time can feel."""
    own = AutoModel.from_pretrained(decoders(family), dtype=torch.float32).eval()
    ids = torch.randint(4, 420, (300,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        hidden = embedders(family).backbone(attention_over(pack([[5, 6], ids, ids[:100]]), causal=True))
        torch.testing.assert_close(hidden[2:302], alone(own, ids), rtol=1e-3, atol=5e-4)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "qwen3", "bloom"])
def test_bidirectional_attention_sees_later_tokens_of_the_same_text_alone(name, embedders):
    backbone = embedders(name, attention="bidirectional").backbone

    def hidden(*sequences):
        return backbone(attention_over(pack(sequences), causal=False))

    with torch.inference_mode():
        first = hidden([10, 11, 12], [20, 21])
        assert not torch.allclose(first[0], hidden([10, 11, 13], [20, 21])[0], atol=1e-3)
        torch.testing.assert_close(first[:3], hidden([10, 11, 12], [20, 22, 23])[:3], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(first[3:], hidden([20, 21]), rtol=1e-3, atol=1e-4)


def test_a_padded_family_refuses_attention_that_is_not_its_own(decoders, make):
    for name in ("falcon", "gemma2"):
        with pytest.raises(ModelError, match="bidirectional"):
            choose(make.model(name), attention="bidirectional")
    with pytest.raises(ModelError, match="bidirectional"):
        choose(make.model("bert"), attention="causal")


def test_a_window_that_the_attention_is_not_told_of_is_not_run_packed(make):
    """The probes are shorter than any real window: that it is passed on at all is what is asked."""
    model = make.model("gpt_neox")
    own = model.config._attn_implementation
    model.config.layer_types = ["sliding_attention", "full_attention"]
    assert isinstance(choose(model, attention="causal"), PaddedModel)
    assert model.config._attn_implementation == own


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mistral", {"sliding_window": 40}),
        ("qwen2", {"sliding_window": 40, "use_sliding_window": True, "max_window_layers": 1}),
        ("qwen3", {"sliding_window": 40, "use_sliding_window": True, "max_window_layers": 1}),
        ("gemma3_text", {"sliding_window": 40, "layer_types": ["sliding_attention", "full_attention"]}),
    ],
)
def test_a_window_longer_than_the_probes_is_passed_on(name, changes, make, alone):
    model = make.model(name, **changes)
    ids = torch.randint(4, 420, (90,), generator=torch.Generator().manual_seed(2)).tolist()
    with torch.inference_mode():
        expected = alone(model, ids)
        chosen = choose(model, attention="causal")
        hidden = chosen(attention_over(pack([ids]), causal=True))
    assert isinstance(chosen, CHOSEN[name])
    torch.testing.assert_close(hidden, expected, rtol=1e-3, atol=2e-4)


def test_a_model_that_forgets_its_window_is_caught(make, monkeypatch):
    monkeypatch.setattr("udever.model.llama._window", lambda module: None)
    assert not isinstance(choose(make.model("mistral"), attention="causal"), LlamaShaped)


class Sabotaged(nn.Module):
    """A backbone that does one thing wrong."""

    def __init__(self, inner, spoil):
        super().__init__()
        self.inner, self.config, self.spoil = inner, inner.config, spoil

    def forward(self, attention, *, last_only=False):
        return self.spoil(self.inner(attention, last_only=last_only), attention.packed, last_only)


def leak(hidden, packed, last_only):
    return hidden if last_only else hidden + 0.05 * hidden.roll(1, 0) * (len(packed.lengths) > 1)


def nan_in_batches(hidden, packed, last_only):
    return hidden * float("nan") if len(packed.lengths) > 1 else hidden


def nan_always(hidden, packed, last_only):
    return hidden * float("nan")


def wrong_closing(hidden, packed, last_only):
    return hidden.flip(0) if last_only else hidden


def constant_offset(hidden, packed, last_only):
    return hidden + 0.1 * last_only


@pytest.mark.parametrize("spoil", [leak, nan_in_batches, nan_always, wrong_closing, constant_offset])
def test_self_test_catches(spoil, embedders):
    inner = embedders("bloom").backbone
    self_test(Sabotaged(inner, lambda hidden, packed, last_only: hidden), attention="causal")
    with pytest.raises(ContractError, match="differ"):
        self_test(Sabotaged(inner, spoil), attention="causal")


def test_dtypes(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(backbone_module, "_cpu_multiplies_bfloat16", lambda: False)
    assert pick_dtype("auto", cpu) is torch.float32
    assert pick_dtype("auto", cuda) is torch.bfloat16
    monkeypatch.setattr(backbone_module, "_cpu_multiplies_bfloat16", lambda: True)
    assert pick_dtype("auto", cpu) is torch.bfloat16
    assert pick_dtype("float32", cpu) is torch.float32
    assert pick_dtype(torch.bfloat16, cpu) is torch.bfloat16
    assert pick_dtype("float16", cuda) is torch.float16


@pytest.mark.parametrize("dtype", ["float16", torch.float16, "int8", "nonsense", "Tensor", torch.int64, None])
def test_dtypes_that_are_refused(dtype):
    with pytest.raises(ModelError, match=r"dtype is .*float32"):
        pick_dtype(dtype, torch.device("cpu"))
