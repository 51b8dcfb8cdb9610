"""Position rules that look at the longest text of a pass, and which texts may therefore share one.

LongRoPE takes one of two sets of frequencies by the longest text, dynamic NTK computes them from its length and
remembers them. A text's vector would then depend on its neighbours.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


def position_limit(config: Any) -> int | None:
    """Most positions the model has; None where there is no limit or no useful one (XLNet says -1)."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit if limit is not None and limit > 1 else None


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


def looks_at_longest(config: Any) -> bool:
    """Whether a position rule of the model looks at the longest text of a pass: there is none in nearly every one."""
    return bool(_side(config, 1))


def separate(lengths: Sequence[int], config: Any) -> list[list[int]]:
    """Share out texts into passes in which no text changes another's positions; return their indices.

    Every index occurs once, in ascending order within its pass.
    """
    passes: dict[tuple[int, ...], list[int]] = {}
    for index, length in enumerate(lengths):
        passes.setdefault(_side(config, length), []).append(index)
    return list(passes.values())


def crosses(config: Any, max_length: int) -> bool:
    """Whether texts of at most `max_length` tokens may need more than one pass."""
    return _side(config, 1) != _side(config, max_length)


def _dynamic_rotaries(model: nn.Module) -> Iterator[tuple[Any, str]]:
    """Rotary modules that remember a longest text, each with what names of its buffers begin with."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", "")
        by_prefix = {f"{layer}_": kind for layer, kind in kinds.items()} if isinstance(kinds, dict) else {"": kinds}
        for prefix, kind in by_prefix.items():
            if "dynamic" in str(kind) and hasattr(module, f"{prefix}original_inv_freq"):
                yield module, prefix


def reset_rotary(model: nn.Module) -> None:
    """Let dynamic NTK forget the longest text of earlier passes."""
    if not any("dynamic" in rule.get("rope_type", "") for rule in _rotary_rules(model.config)):
        return
    for rotary, prefix in _dynamic_rotaries(model):
        original = getattr(rotary, f"{prefix}original_inv_freq").to(getattr(rotary, f"{prefix}inv_freq").device)
        rotary.register_buffer(f"{prefix}inv_freq", original, persistent=False)
        setattr(rotary, f"{prefix}max_seq_len_cached", rotary.original_max_seq_len)


def _replace(undo: ExitStack, item: Any, name: str, value: Any) -> None:
    undo.callback(setattr, item, name, getattr(item, name))
    setattr(item, name, value)


@contextmanager
def threshold_at(model: Any, length: int) -> Iterator[None]:
    """While this is open, the rules switch behind `length` tokens: short probes then stand on both sides."""
    name = "original_max_position_embeddings"
    config = model.config.get_text_config()
    with ExitStack() as undo:
        undo.callback(reset_rotary, model)
        for rule in _rotary_rules(model.config):
            if rule.get("rope_type") == "longrope":
                undo.callback(rule.__setitem__, name, rule[name])
                rule[name] = length
                if hasattr(config, name):  # Phi 3: copied over the rule whenever frequencies are computed
                    _replace(undo, config, name, length)
        for rotary in {id(rotary): rotary for rotary, _ in _dynamic_rotaries(model)}.values():
            _replace(undo, rotary, "original_max_seq_len", length)
            _replace(undo, config, "max_position_embeddings", length)
        reset_rotary(model)
        yield
