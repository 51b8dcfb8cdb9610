"""A decoder's settings and weights as llama.cpp reads them, by family.

What llama.cpp fixes in its own code (the scale of Gemma's attention, which layers see a window) is compared with the
model's configuration: a model that differs is refused, since llama.cpp would run it in its own way without a word.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from udever.errors import ModelError
from udever.model import gemma
from udever.model.backbone import vocab_size
from udever.model.lengths import position_limit

ARCHITECTURES = {
    "bloom": "bloom",
    "gemma3_text": "gemma3",
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
"""llama.cpp's names of the families that it and this project both have."""

_STATIC_ROTARY = ("default", "linear", "llama3")
_WINDOW_EACH = 6
"""Of so many layers of a Gemma 3 the last one sees everything, the others a window."""
_LAYERS_OF_27B = 62
ROPE_FACTORS = "rope_freqs.weight"


def architecture_of(name: str, model: Any, max_length: int) -> str:
    """llama.cpp's name for the family of the model `name`, a transformers model or our BLOOM.

    Raises ModelError for a family or a setting that llama.cpp does not have.
    """
    config = model.config
    kind = config.model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{name} is a {kind!r} model; GGUF files are written of {known}: use --format onnx")
    if kind == "bloom":
        wrong = "norms before its residuals" if config.apply_residual_connection_post_layernorm else ""
    elif kind == "gemma3_text":
        wrong = _odd_gemma(config)
    else:
        wrong = _odd_llama(config, max_length)
    if wrong:
        raise ModelError(f"{name} has {wrong}, which llama.cpp does not know; export it with --format onnx")
    return ARCHITECTURES[kind]


def _odd_llama(config: Any, max_length: int) -> str:
    """What such a model has that llama.cpp would leave out; empty where there is nothing."""
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and window < max_length:
        return f"a sliding window of {window} tokens"
    rule = config.rope_parameters["rope_type"]
    # llama.cpp reads factors of single frequencies for Llama alone
    if rule not in (_STATIC_ROTARY if ARCHITECTURES[config.model_type] == "llama" else _STATIC_ROTARY[:1]):
        return f"rotary positions of type {rule!r}"
    return ""


def _odd_gemma(config: Any) -> str:
    if not gemma.fits(config):
        return "an activation or a cap on its scores of its own"
    layers = config.num_hidden_layers
    usual = ["sliding_attention" if (index + 1) % _WINDOW_EACH else "full_attention" for index in range(layers)]
    if list(config.layer_types) != usual:
        return "windows in other layers than Gemma 3"
    head = config.hidden_size // config.num_attention_heads if layers == _LAYERS_OF_27B else config.head_dim
    if config.query_pre_attn_scalar != head:
        return f"attention scaled for heads of {config.query_pre_attn_scalar}"
    everywhere, near = config.rope_parameters["full_attention"], config.rope_parameters["sliding_attention"]
    if everywhere["rope_type"] not in ("default", "linear") or near["rope_type"] != "default":
        return f"rotary positions of type {everywhere['rope_type']!r} and {near['rope_type']!r}"
    return ""


def write_settings(writer: Any, model: Any, max_length: int) -> None:
    """Put what the configuration says of sizes, heads and positions into a GGUF file."""
    config = model.config
    writer.add_vocab_size(vocab_size(config))
    writer.add_context_length(position_limit(config) or max_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    if config.model_type == "bloom":
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_head_count(config.n_head)
        writer.add_head_count_kv(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    head = _head_size(config)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rotary = config.rope_parameters
    if config.model_type == "gemma3_text":
        writer.add_sliding_window(config.sliding_window)
        writer.add_rope_freq_base_swa(rotary["sliding_attention"]["rope_theta"])
        rotary = rotary["full_attention"]
        if rotary["rope_type"] == "linear":
            from gguf import RopeScalingType

            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rotary["factor"])
    writer.add_rope_freq_base(rotary["rope_theta"])


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def weights_of(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Each weight in float32 under the name that a checkpoint of the family has, as llama.cpp wants its numbers."""
    config = model.config
    for name, tensor in model.state_dict().items():
        tensor = tensor.float()
        if config.model_type == "bloom":
            yield name, _thirds(tensor, config.n_head) if ".query_key_value." in name else tensor
        elif config.model_type == "gemma3_text":
            yield f"model.{name}", tensor + 1 if name.endswith("norm.weight") else tensor
        elif ARCHITECTURES[config.model_type] == "llama" and (".q_proj." in name or ".k_proj." in name):
            yield f"model.{name}", _interleaved(tensor, _head_size(config))
        else:
            yield f"model.{name}", tensor


def rotary_factors(model: Any) -> Tensor | None:
    """By what llama.cpp divides each rotary frequency, [head / 2]; None where they are plain."""
    config = model.config
    if ARCHITECTURES[config.model_type] != "llama" or config.rope_parameters["rope_type"] == "default":
        return None
    own = model.rotary_emb.inv_freq.float()
    steps = torch.arange(0, 2 * len(own), 2, device=own.device) / (2 * len(own))
    return config.rope_parameters["rope_theta"] ** -steps / own


def _thirds(tensor: Tensor, num_heads: int) -> Tensor:
    """BLOOM's queries, keys and values head by head -> all queries, all keys, all values."""
    return tensor.unflatten(0, (num_heads, 3, -1)).transpose(0, 1).flatten(0, 2)


def _interleaved(tensor: Tensor, head_size: int) -> Tensor:
    """Rows of a head as two halves that rotate together -> as neighbours."""
    return tensor.unflatten(0, (-1, 2, head_size // 2)).transpose(1, 2).flatten(0, 2)
