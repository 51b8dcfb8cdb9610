"""A model into eight bits and its way to a file and back, and the gate: what eight bits may cost."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from udever.allocator import give_back_free
from udever.errors import ContractError, ModelError
from udever.model import smoothing
from udever.model.adapters import has_lora
from udever.model.eight_bits import SCALE, SHRINK, EightBitEmbedding, EightBitLinear, quantise_weight

LEAST_COSINE = 0.99
LEAST_MEAN_COSINE = 0.995


def check_gate(name: str, precise: np.ndarray, eight_bits: np.ndarray) -> None:
    """Raise ContractError where unit vectors in eight bits are too far from those in float32, row by row."""
    cosines = (precise.astype(np.float64) * eight_bits).sum(1)
    # `not >=` so that NaN, activations that overflow, fails too
    if not (cosines.min() >= LEAST_COSINE and cosines.mean() >= LEAST_MEAN_COSINE):
        raise ContractError(
            f"{name} loses too much in int8: cosine to float32 on the reference texts {cosines.min():.4f} at worst, "
            f"{cosines.mean():.4f} in the mean; expected {LEAST_COSINE} and {LEAST_MEAN_COSINE}: use another dtype"
        )


@torch.no_grad()
def quantise(model: nn.Module, embed_sample: Callable[[], object]) -> None:
    """Put the linear layers and the table of tokens of a float32 model into eight bits, in place; all else stays.

    `embed_sample` runs the model on some texts. Raises ModelError where LoRA is not folded in.
    """
    if has_lora(model):
        raise ModelError("an adapter that is not merged cannot be put into int8; save with merged=True and load that")
    seen = smoothing.watch(model, embed_sample)
    table = _table(model)
    if table is not None:
        # what the module makes of each token, whatever else it multiplies by
        rows = table(torch.arange(table.num_embeddings))
        _replace(model, _name(model, table), EightBitEmbedding(*quantise_weight(rows)))
    for names in _same_input(model, seen):
        layers: list[Any] = [model.get_submodule(name) for name in names]
        for name, made in zip(names, smoothing.best(layers, seen.get(names[0])), strict=True):
            _replace(model, name, made)


def _same_input(model: nn.Module, seen: Mapping[str, smoothing.Seen]) -> list[list[str]]:
    """Names of all linear layers, those together that were given the same: their largest inputs are equal."""
    groups: dict[Any, list[str]] = {}
    for name, module in model.named_modules():
        if type(module) in smoothing.PLAIN:
            key = seen[name].peaks.numpy().tobytes() if name in seen else name
            groups.setdefault(key, []).append(name)
    return list(groups.values())


def _name(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def _table(model: nn.Module) -> Any:
    """The embedding table of tokens: the first with as many rows as there are tokens."""
    size = model.config.get_text_config().vocab_size  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    tables = (m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= size)
    return next(tables, None)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def settle(model: nn.Module, dtype: torch.dtype) -> None:
    """Make a model in eight bits ready to run: all else in `dtype`, which its products and tables come out in.

    All else is rounded as `stored` does it first, so that the model is the one that a file of it gives. No gradient
    flows through it. What the weights held before they were packed goes back to the system.
    """
    for parameter in model.requires_grad_(False).parameters():
        parameter.data = parameter.data.to(torch.bfloat16).to(dtype)
    alike: dict[bytes, Tensor | None] = {}  # layers that shrink their input alike share what they make of it
    for module in model.modules():
        if isinstance(module, EightBitLinear):
            module.shrink()
            if module.input_shrink is not None:
                module.factors = alike.setdefault(module.input_shrink.numpy().tobytes(), module.factors)
            module.pack()
        elif isinstance(module, EightBitEmbedding):
            module.out = dtype
    give_back_free()


def stored(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model in eight bits as a file holds them: all else in bfloat16, whatever it is run in."""
    return {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() and not name.endswith(SCALE) else tensor
        for name, tensor in model.state_dict().items()
    }


def fill(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put tensors as `stored` gives them into a model built in floating point. Raises ModelError where they do not fit.

    Its own weights are not read. What is not a linear layer's weight, which is packed, is copied: the file that `state`
    lies in can then be let go.
    """
    packed = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    state = {name: tensor if name in packed else tensor.clone() for name, tensor in state.items()}
    for name, module in list(model.named_modules()):
        scale, weight = state.get(f"{name}.{SCALE}"), state.get(f"{name}.weight")
        if scale is None or weight is None:
            continue
        if not isinstance(module, nn.Linear | nn.Embedding) or module.weight.shape != weight.shape:
            raise ModelError(f"weight '{name}.weight' has another shape than config.json says")
        shrink = state.get(f"{name}.{SHRINK}")
        if shrink is not None and (shrink.dtype != torch.int8 or shrink.shape != weight.shape[1:]):
            raise ModelError(f"'{name}.{SHRINK}' is no int8 for each column of the weight")
        if weight.dtype != torch.int8 or scale.dtype != torch.float32 or scale.shape != weight.shape[:1]:
            raise ModelError(f"weight '{name}.weight' is no int8 with a float32 scale for each row")
        if isinstance(module, nn.Embedding):
            _replace(model, name, EightBitEmbedding(weight, scale))
        else:
            _replace(model, name, EightBitLinear(weight, scale, module.bias, shrink))
    try:
        missing, unknown = model.load_state_dict(dict(state), strict=False, assign=True)
    except RuntimeError as error:
        raise ModelError("its weights have other shapes than config.json says") from error
    if missing or unknown:
        what = f"weight {missing[0]!r} is missing" if missing else f"weight {unknown[0]!r} is of no layer"
        raise ModelError(f"{what}; quantize the model again")
