"""The configuration of a Llama-shaped decoder or a Gemma 3 that this project saved, read without transformers."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

import torch

_COUNT, _NUMBER, _FLAG, _NAME = (int,), (int, float), (bool,), (str,)
_EVERY = {
    "model_type": _NAME,
    "vocab_size": _COUNT,
    "hidden_size": _COUNT,
    "intermediate_size": _COUNT,
    "num_hidden_layers": _COUNT,
    "num_attention_heads": _COUNT,
    "num_key_value_heads": _COUNT,
    "max_position_embeddings": _COUNT,
    "rms_norm_eps": (float,),
    "attention_dropout": _NUMBER,
    "rope_parameters": (dict,),
}
_SILU = {"hidden_act": _NAME}
_WINDOW = {"sliding_window": (int, type(None))}
_QWEN = _SILU | _WINDOW | {"layer_types": (list,), "max_window_layers": _COUNT, "use_sliding_window": _FLAG}
_HEAD, _BIAS = {"head_dim": _COUNT}, {"attention_bias": _FLAG}
_FAMILIES: dict[str, dict[str, tuple[type, ...]]] = {
    "llama": _EVERY | _SILU | _HEAD | _BIAS | {"mlp_bias": _FLAG, "pretraining_tp": _COUNT},
    "mistral": _EVERY | _SILU | _HEAD | _WINDOW,
    "qwen2": _EVERY | _QWEN,
    "qwen3": _EVERY | _QWEN | _HEAD | _BIAS,
    "gemma3_text": _EVERY | _HEAD | _BIAS | _WINDOW | {
        "layer_types": (list,), "hidden_activation": _NAME, "query_pre_attn_scalar": _NUMBER,
        "attn_logit_softcapping": (type(None),), "final_logit_softcapping": (int, float, type(None)),
        "_sliding_window_pattern": _COUNT, "use_bidirectional_attention": _FLAG,
    },
}  # fmt: skip
"""Every entry of each family that may decide a vector, and the types its value may have."""
_MOST = 1 << 24
"""More of anything is no model, and sizes that multiply would overflow."""
_LAYERS = {"full_attention", "sliding_attention"}
_CLASSES = {
    "llama": "LlamaModel",
    "mistral": "MistralModel",
    "qwen2": "Qwen2Model",
    "qwen3": "Qwen3Model",
    "gemma3_text": "Gemma3TextModel",
}
_ACTIVATION = {"gemma3_text": ("hidden_activation", "gelu_pytorch_tanh")}
_NAMES = ("_model_name_or_path", "unk_token_id")
"""Entries that decide nothing and count in fingerprints all the same, as transformers keeps them."""


class DecoderConfig:
    """What config.json says, entry by entry, as attributes."""

    model_type: str
    num_hidden_layers: int
    architectures: list[str] | None = None
    dtype: Any = None

    def __init__(self, raw: Mapping[str, Any]) -> None:
        vars(self).update(raw)

    @classmethod
    def of(cls, raw: Mapping[str, Any], undecided: Collection[str]) -> Self | None:
        """config.json as it is; None where it leaves something to transformers: other entries than a family's, a
        default that is not written down, another activation or position rule. `undecided` entries may be what they are.
        """
        kinds = _FAMILIES.get(raw.get("model_type", ""), {})
        decided = {name: value for name, value in raw.items() if name not in undecided and name not in _NAMES}
        if decided.keys() != kinds.keys() or any(type(value) not in kinds[name] for name, value in decided.items()):
            return None
        activation, usual = _ACTIVATION.get(raw["model_type"], ("hidden_act", "silu"))
        layers = raw.get("layer_types")
        known = layers is None or (len(layers) == raw["num_hidden_layers"] and {*layers} <= _LAYERS)
        if raw[activation] != usual or raw.get("use_bidirectional_attention") or not known:
            return None
        config = cls(raw)
        return config if all(map(_is_plain, config.rotary_rules())) and config.is_whole else None

    def rotary_rules(self) -> list[Any]:
        """The position rule, or that of each kind of layer."""
        rules: dict[str, Any] = vars(self)["rope_parameters"]
        return [rules.get(kind) for kind in dict.fromkeys(self.layer_types)] if self.by_kind else [rules]

    @property
    def by_kind(self) -> bool:
        """Whether each kind of layer has a position rule of its own."""
        return self.model_type == "gemma3_text"

    @property
    def layer_types(self) -> list[str]:
        """Each layer's kind of attention; a family that says none has one for all."""
        return vars(self).get("layer_types") or [self._usual_layer] * self.num_hidden_layers

    @property
    def _usual_layer(self) -> str:
        return "full_attention" if vars(self).get("sliding_window") is None else "sliding_attention"

    def window(self, layer: int) -> int | None:
        """How many tokens back a layer sees; None for all."""
        return vars(self)["sliding_window"] if self.layer_types[layer] == "sliding_attention" else None

    @property
    def head_size(self) -> int:
        """The width of a head."""
        sizes = vars(self)
        return sizes.get("head_dim") or sizes["hidden_size"] // sizes["num_attention_heads"]

    @property
    def is_whole(self) -> bool:
        """Whether there is one of everything, key heads share out the query heads, and padding is a token."""
        said = vars(self)
        counts = [said[name] for name, kind in _EVERY.items() if kind == _COUNT]
        if not (min(counts) > 0 and max(counts) < _MOST and 0 < self.head_size * said["num_attention_heads"] < _MOST):
            return False
        shared = said["num_attention_heads"] % said["num_key_value_heads"] == 0
        padding = said.get("pad_token_id")
        has_padding = padding is None or (type(padding) is int and 0 <= padding < said["vocab_size"])
        return shared and has_padding and self.head_size % 2 == 0

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return (vars(self).get("query_pre_attn_scalar") or self.head_size) ** -0.5

    @property
    def architecture(self) -> str:
        """The class that transformers has for it."""
        return _CLASSES[self.model_type]

    @property
    def embedding_scale(self) -> float:
        """What rows of the table of tokens are multiplied by."""
        return math.sqrt(vars(self)["hidden_size"]) if self.model_type == "gemma3_text" else 1.0

    def get_text_config(self) -> Self:
        """The part that is about text: all of it."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Every entry."""
        return {"is_encoder_decoder": False, **vars(self)}

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json as transformers writes it."""
        said = {**vars(self), "dtype": str(self.dtype).removeprefix("torch.")}
        (folder / "config.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def frequencies(self, kind: str) -> torch.Tensor:
        """Radians by which a position turns each pair of a head's numbers, in layers of a kind: [head_size / 2]."""
        rules = vars(self)["rope_parameters"]
        rule = rules[kind] if self.by_kind else rules
        steps = torch.arange(0, self.head_size, 2, dtype=torch.float, device="cpu")
        turns = 1.0 / (float(rule["rope_theta"]) ** (steps / self.head_size))
        return turns / rule["factor"] if rule["rope_type"] == "linear" else turns


def _is_plain(rule: Any) -> bool:
    """Whether a position rule is one that `frequencies` knows: RoFormer's own, or that over a factor."""
    known = {"default": {"rope_type", "rope_theta"}, "linear": {"rope_type", "rope_theta", "factor"}}
    if not isinstance(rule, dict) or rule.keys() != known.get(str(rule.get("rope_type"))):
        return False
    return all(type(value) in _NUMBER and 0 < value < 1e30 for name, value in rule.items() if name != "rope_type")
