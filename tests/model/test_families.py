"""Every published decoder family, tiny and random, against transformers' own forward pass."""

from copy import deepcopy

import pytest
import torch
import transformers
from transformers import AutoModel

from udever.errors import ModelError
from udever.model.attention import attention_over
from udever.model.backbone import choose, width
from udever.model.decoders import PaddedModel
from udever.model.gemma import GemmaShaped
from udever.model.lengths import crosses, separate
from udever.model.packing import pack

BASE = {
    "vocab_size": 420,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT = {"vocab_size": 420, "n_embd": 32, "n_layer": 2, "n_head": 4}
EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
CONFIGS = {
    "Llama": BASE,
    "Mistral": BASE | {"sliding_window": 6},
    "Ministral": BASE | {"sliding_window": 6, "head_dim": 8},
    "Mixtral": BASE | {"num_local_experts": 4},
    "Qwen2": BASE,
    "Qwen2Moe": BASE | EXPERTS | {"shared_expert_intermediate_size": 16},
    "Qwen3": BASE | {"head_dim": 8},
    "Qwen3Moe": BASE | EXPERTS | {"head_dim": 8},
    "Gemma": BASE | {"head_dim": 8},
    "Gemma2": BASE | {"head_dim": 8, "sliding_window": 6},
    "Gemma3Text": BASE | {"head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    "GPT2": GPT,
    "GPTBigCode": GPT,
    "GPTJ": GPT | {"rotary_dim": 4},
    "CodeGen": GPT | {"rotary_dim": 4, "n_head": 8},
    "GPTNeo": {
        "vocab_size": 420,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "window_size": 6,
        "attention_types": [[["global", "local"], 1]],
    },
    "GPTNeoX": BASE,
    "OPT": BASE | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Falcon": BASE,
    "Mpt": {"vocab_size": 420, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "Phi": BASE,
    "Phi3": BASE,
    "Olmo": BASE,
    "Olmo2": BASE,
    "Olmo3": BASE | {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    "Olmoe": BASE | {"num_experts": 4, "num_experts_per_tok": 2},
    "StableLm": BASE,
    "Starcoder2": BASE | {"sliding_window": 6},
    "Cohere": BASE,
    "Cohere2": BASE | {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    "Granite": BASE,
    "SmolLM3": BASE,
    "XGLM": {"vocab_size": 420, "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
    "BioGpt": BASE,
    "DeepseekV3": BASE | LATENT | {"num_key_value_heads": 4, "first_k_dense_replace": 2},
    "Glm": BASE | {"head_dim": 8},
    "Glm4": BASE | {"head_dim": 8},
    "Llama4Text": BASE
    | {
        "intermediate_size_mlp": 48,
        "head_dim": 8,
        "attention_chunk_size": 16,
        "num_local_experts": 2,
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
    },
    "Exaone4": BASE | {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    "Nemotron": BASE,
    "Persimmon": BASE,
    "Helium": BASE | {"head_dim": 8},
    "Arcee": BASE,
    "SeedOss": BASE | {"head_dim": 8},
    "Ernie4_5": BASE | {"head_dim": 8},
    "GptOss": BASE | {"head_dim": 8, "sliding_window": 6, "num_local_experts": 4},
    "Mamba": {"vocab_size": 420, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2},
}
LENGTHS = (40, 3, 70, 39, 1)


def make_tiny(name, **changes):
    torch.manual_seed(0)
    model = AutoModel.from_config(getattr(transformers, name + "Config")(**(CONFIGS[name] | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def texts_of(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(4, 420, (length,), generator=generator).tolist() for length in lengths]


def own_pass(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]


def check(model, texts, **tolerance):
    """Alone, in a batch and for closing tokens, the chosen pass is the model's own of each text."""
    expected = [own_pass(model, ids) for ids in texts]
    backbone = choose(model, attention="causal")
    for ids, hidden in zip(texts, expected, strict=True):
        torch.testing.assert_close(backbone(attention_over(pack([ids]), causal=True)), hidden, **tolerance)
    for chosen in separate([len(ids) for ids in texts], model.config):
        packed = pack([texts[i] for i in chosen])
        hidden = torch.cat([expected[i] for i in chosen])
        torch.testing.assert_close(backbone(attention_over(packed, causal=True)), hidden, **tolerance)
        closing = backbone(attention_over(packed, causal=True), last_only=True)
        torch.testing.assert_close(closing, hidden[packed.last], **tolerance)
    return backbone


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_a_family_is_transformers_own_alone_and_batched(name):
    check(make_tiny(name), texts_of(), rtol=1e-3, atol=5e-4)


LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 32}
LONG |= {"short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 8.0, 20.0]}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}


BY_KIND = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}, "full_attention": DYNAMIC}
RULES = [
    *[(name, {"rope_parameters": LONG, "max_position_embeddings": 256}) for name in ("Llama", "Qwen3")],
    # Phi 3 names the threshold in its configuration, and what the rule says gives way to that
    (
        "Phi3",
        {
            "rope_parameters": LONG | {"original_max_position_embeddings": 200},
            "original_max_position_embeddings": 32,
            "max_position_embeddings": 256,
        },
    ),
    *[(name, {"rope_parameters": DYNAMIC, "max_position_embeddings": 32}) for name in ("Llama", "Qwen3")],
    ("Gemma3Text", {"rope_parameters": BY_KIND, "max_position_embeddings": 32}),
]


@pytest.mark.parametrize(("name", "changes"), RULES)
@torch.inference_mode()
def test_texts_on_both_sides_of_a_rotary_threshold_never_share_a_pass(name, changes):
    alone = [own_pass(make_tiny(name, **deepcopy(changes)), ids) for ids in texts_of()]
    model = make_tiny(name, **deepcopy(changes))
    passes = separate(LENGTHS, model.config)
    assert len(passes) > 1 and sorted(i for chosen in passes for i in chosen) == list(range(len(LENGTHS)))
    assert crosses(model.config, max(LENGTHS)) and not crosses(model.config, 32)
    backbone = choose(model, attention="causal")
    for chosen in [*passes, *reversed(passes)]:  # no pass remembers another
        hidden = backbone(attention_over(pack([texts_of()[i] for i in chosen]), causal=True))
        torch.testing.assert_close(hidden, torch.cat([alone[i] for i in chosen]), rtol=1e-3, atol=5e-4)
    together = backbone(attention_over(pack(texts_of()), causal=True))
    assert (together - torch.cat(alone)).norm() > 1e-3 * together.norm(), "the threshold was not crossed"


def test_unknown_layers_run_through_the_models_own_code():
    model = make_tiny("Llama4Text")
    assert isinstance(choose(model, attention="causal"), PaddedModel)
    other = make_tiny("Llama")
    other.config.layer_types = ["full_attention", "something_new"]
    assert isinstance(choose(other, attention="causal"), PaddedModel)


@torch.inference_mode()
def test_the_width_is_measured():
    backbone = check(
        make_tiny("OPT", word_embed_proj_dim=16, do_layer_norm_before=False), texts_of(), rtol=1e-3, atol=5e-4
    )
    assert width(backbone) == 16


@pytest.mark.parametrize(
    "config",
    [
        transformers.T5Config(vocab_size=420, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2),
        transformers.XLNetConfig(vocab_size=420, d_model=16, n_layer=1, n_head=2, d_inner=16),
    ],
)
def test_a_family_that_cannot_be_run_is_named_in_one_line(config):
    with pytest.raises(ModelError, match=config.model_type) as raised:
        choose(AutoModel.from_config(config).eval(), attention="causal")
    assert "\n" not in str(raised.value)


TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 6e-2}


@pytest.mark.parametrize("dtype", TOLERANCES)
@torch.inference_mode()
def test_gemma_is_transformers_own_beyond_its_window(dtype):
    model = make_tiny("Gemma3Text", sliding_window=20).to(dtype)
    texts = texts_of()
    expected = torch.cat([own_pass(model, ids) for ids in texts])
    backbone = choose(model, attention="causal")
    assert isinstance(backbone, GemmaShaped)
    packed = pack(texts)
    hidden = backbone(attention_over(packed, causal=True))
    closing = backbone(attention_over(packed, causal=True), last_only=True)
    assert hidden.dtype is closing.dtype is dtype
    assert (hidden - expected).norm() / expected.norm() < TOLERANCES[dtype]
    assert (closing - expected[packed.last]).norm() / expected[packed.last].norm() < TOLERANCES[dtype]


def test_gemmas_gradients_are_transformers_own():
    texts = texts_of((40, 3, 20))
    ours, own = (make_tiny("Gemma3Text").double() for _ in range(2))
    backbone = GemmaShaped(ours)
    target = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (backbone(attention_over(pack(texts), causal=True), last_only=True) * target).sum().backward()
    closing = torch.stack([own_pass(own, ids)[-1] for ids in texts])
    (closing * target).sum().backward()
    expected = dict(own.named_parameters())
    for name, parameter in ours.named_parameters():
        scale = expected[name].grad.norm()
        assert (parameter.grad - expected[name].grad).norm() < 1e-5 * scale, name


def test_gemma_that_caps_its_scores_is_left_to_transformers():
    model = make_tiny("Gemma3Text", attn_logit_softcapping=2.0)
    assert not isinstance(choose(model, attention="causal"), GemmaShaped)


@torch.inference_mode()
def test_gemma_that_sees_both_ways_is_transformers_own():
    model = make_tiny("Gemma3Text", sliding_window=20, use_bidirectional_attention=True)
    texts = texts_of()
    expected = torch.cat([own_pass(model, ids) for ids in texts])
    backbone = choose(model, attention="bidirectional")
    assert isinstance(backbone, GemmaShaped)
    hidden = backbone(attention_over(pack(texts), causal=False))
    torch.testing.assert_close(hidden, expected, rtol=1e-3, atol=5e-4)
