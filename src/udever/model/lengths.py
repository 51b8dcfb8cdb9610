"""Position rules that look at the longest text of a pass, and which texts may therefore share one.

LongRoPE takes one of two sets of frequencies by the longest text, dynamic NTK computes them from its length and
remembers them. A text's vector would then depend on its neighbours.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


def _rotary_rules(config: Any) -> list[dict[str, Any]]:
    """The model's rotary parameters: one set, or one for each kind of layer."""
    rules = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return [rules] if "rope_type" in rules else [rule for rule in rules.values() if isinstance(rule, dict)]


def _side(config: Any, length: int) -> tuple[int, ...]:
    """What every rule of `config` makes of a pass whose longest text has `length` tokens."""
    sides = []
    for rule in _rotary_rules(config):
        kind = rule.get("rope_type", "default")
        if kind == "longrope":
            sides.append(int(length > rule["original_max_position_embeddings"]))
        elif "dynamic" in kind:
            longest = config.get_text_config().max_position_embeddings
            sides.append(max(length, longest))
    return tuple(sides)


def separate(lengths: Sequence[int], config: Any) -> list[list[int]]:
    """Share out texts into passes in which no text changes another's positions; return their indices.

    One pass for nearly every model. Every index occurs once, in ascending order within its pass.
    """
    passes: dict[tuple[int, ...], list[int]] = {}
    for index, length in enumerate(lengths):
        passes.setdefault(_side(config, length), []).append(index)
    return list(passes.values())


def _dynamic_rotaries(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        kind = getattr(module, "rope_type", "")
        if isinstance(kind, str) and "dynamic" in kind and hasattr(module, "original_inv_freq"):
            yield module


def reset_rotary(model: nn.Module) -> None:
    """Let dynamic NTK forget the longest text of earlier passes."""
    rotary: Any
    if not any("dynamic" in rule.get("rope_type", "") for rule in _rotary_rules(model.config)):
        return
    for rotary in _dynamic_rotaries(model):
        rotary.register_buffer("inv_freq", rotary.original_inv_freq.to(rotary.inv_freq.device), persistent=False)
        rotary.max_seq_len_cached = rotary.original_max_seq_len


@contextmanager
def threshold_at(model: Any, length: int) -> Iterator[None]:
    """While this is open, the rules switch behind `length` tokens: short probes then stand on both sides."""
    with ExitStack() as undo:
        for rule in _rotary_rules(model.config):
            if rule.get("rope_type") == "longrope":
                undo.callback(
                    rule.__setitem__, "original_max_position_embeddings", rule["original_max_position_embeddings"]
                )
                rule["original_max_position_embeddings"] = length
        rotary: Any
        for rotary in _dynamic_rotaries(model):
            undo.callback(setattr, rotary, "original_max_seq_len", rotary.original_max_seq_len)
            rotary.original_max_seq_len = rotary.max_seq_len_cached = length
            config = model.config.get_text_config()
            undo.callback(setattr, config, "max_position_embeddings", config.max_position_embeddings)
            config.max_position_embeddings = length
        yield
    reset_rotary(model)
