"""A model into eight bits and its way to a file and back, and the gate: what eight bits may cost."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from udever.errors import ContractError, ModelError
from udever.model.adapters import has_lora
from udever.model.eight_bits import SCALE, SHRINK, EightBitEmbedding, EightBitLinear, quantise_weight
from udever.model.products import FusedLinear

LEAST_COSINE = 0.99
LEAST_MEAN_COSINE = 0.995
SAMPLE = (
    "The committee will publish its final report in March, three months later than planned.",
    "SELECT name, COUNT(*) FROM orders WHERE total > 100 GROUP BY name ORDER BY 2 DESC;",
    "for (int i = 0; i < n; ++i) {\n    sum += values[i];  // no overflow below 2^31\n}",
    "Die Bibliothek ist montags geschlossen; Bücher können am Automaten zurückgegeben werden.",
    "La recette demande 250 g de farine, 3 œufs et un peu de sel.",
    "Температура ночью опустится до минус пяти градусов.",
    "请在提交之前运行所有测试，并更新文档。",
    "このパッケージはオフラインでも動作します。",
    "تم تحديث سياسة الخصوصية هذا الأسبوع.",
    '{"id": 17, "tags": ["new", "sale"], "price": 9.99, "url": "https://example.org/a?b=c"}',
)
"""Texts by which is seen what channels of activations are large; none of the reference texts, which judge."""
_MOST_SHRINK = 7
_LINEAR = (nn.Linear, FusedLinear)


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
    peaks = _peaks(model, embed_sample)
    table = _table(model)
    for name, module in list(model.named_modules()):
        if module is table:
            # what the module makes of each token, whatever else it multiplies by
            rows = module(torch.arange(module.num_embeddings))
            _replace(model, name, EightBitEmbedding(*quantise_weight(rows)))
        elif type(module) in _LINEAR:
            shrink = _shrink(peaks[name]) if name in peaks else torch.zeros(0)
            weight = module.weight * shrink.exp2() if shrink.any() else module.weight
            kept = shrink.to(torch.int8) if shrink.any() else None
            _replace(model, name, EightBitLinear(*quantise_weight(weight), module.bias, kept))


def _peaks(model: nn.Module, embed_sample: Callable[[], object]) -> dict[str, Tensor]:
    """By name of a linear layer, the largest activation of each input channel in multiples of its token's usual."""
    found: dict[str, Tensor] = {}

    def see(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2).abs()
        usual = x.median(-1, keepdim=True).values.clamp_min(torch.finfo(x.dtype).tiny)
        peak = (x / usual).amax(0)
        found[name] = torch.maximum(found[name], peak) if name in found else peak

    layers = [(name, module) for name, module in model.named_modules() if type(module) in _LINEAR]
    handles = [module.register_forward_pre_hook(partial(see, name)) for name, module in layers]
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.requires_grad_(False)
        with torch.enable_grad():  # products are fused without gradients, and then call no layer
            embed_sample()
    finally:
        for handle in handles:
            handle.remove()
        for parameter in moving:
            parameter.requires_grad_(True)
    return found


def _shrink(peaks: Tensor) -> Tensor:
    """Powers of two by which to shrink: three quarters of those by which a channel's peak is over four times the usual.

    Tried on a Gemma 3 of 270M as well: over once and twice the usual, a half and all of it. None was better throughout.
    """
    above = (peaks / (4 * peaks.median())).log2()
    return (0.75 * above).round().nan_to_num(0).clamp(0, _MOST_SHRINK)


def _table(model: nn.Module) -> Any:
    """The embedding table of tokens: the first with as many rows as there are tokens."""
    size = model.config.get_text_config().vocab_size  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    tables = (m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= size)
    return next(tables, None)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def settle(model: nn.Module, dtype: torch.dtype) -> None:
    """Make a model in eight bits ready to run: all else in `dtype`, which its products and tables come out in."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    alike: dict[bytes, Tensor] = {}  # layers that shrink their input alike share what they make of it
    for module in model.modules():
        if isinstance(module, EightBitLinear):
            if module.input_shrink is not None:
                key = module.input_shrink.numpy().tobytes()
                module.factors = alike.setdefault(key, (-module.input_shrink.to(dtype)).exp2())
            module.pack()
        elif isinstance(module, EightBitEmbedding):
            module.out = dtype


def stored(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model in eight bits as a file holds them: all else in bfloat16, whatever it is run in."""
    return {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() and not name.endswith(SCALE) else tensor
        for name, tensor in model.state_dict().items()
    }


def fill(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put tensors as `stored` gives them into a model built in floating point. Raises ModelError where they do not fit.

    Its own weights are not read.
    """
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
