"""Matrix products of the forward pass, with the operation behind each product fused into it on the CPU.

torch's `F.linear` takes the vendor's library for float32 on the CPU, which on some processors runs at well
under half the speed of oneDNN, and it writes the result to memory before the activation reads it again.
The oneDNN operations that torch's own compiler emits do both at once and need no compiler at run time.
They have no gradient: with gradients on, products run by the functions of `kept`, and on every
other device the plain operations run.
`bench/encode.py` shows what this is worth.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udever.model import kept
from udever.model.blocks import own_copy
from udever.model.eight_bits import EightBitLinear, EightBitRows, quantise_rows
from udever.model.kept import Activation, Curve, activate
from udever.model.norms import RmsNorm

_ONEDNN = {"none": ("none", ""), "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "silu": ("swish", "")}


def shared(x: Tensor, *layers: nn.Module, norm: RmsNorm | None = None) -> Any:
    """x, or its norm, as all of `layers` take it, made once: in eight bits where they all are and scale channels alike.

    Under autocast: in its precision.
    """
    first = layers[0]
    alike = all(isinstance(layer, EightBitLinear) and layer.factors is first.factors for layer in layers)
    if isinstance(first, EightBitLinear) and alike:
        return quantise_rows(x, first.factors, None if norm is None else norm.of_rows)
    normed = x if norm is None else norm(x)
    return normed if isinstance(first, EightBitLinear) else _to_compute(normed)


def _to_compute(x: Tensor) -> Tensor:
    """x in the precision that products of it are computed in: autocast's where it is on and would take x."""
    device = x.device.type
    if x.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


def linear(layer: nn.Module, x: Tensor | EightBitRows, activation: Activation = "none") -> Tensor:
    """activation(layer(x)); `layer` is an nn.Linear, one in eight bits, or an adapter around one."""
    if isinstance(layer, EightBitLinear):
        return activate(layer(x), activation)
    if isinstance(x, Tensor) and _fusable(layer, x):
        name, algorithm = _ONEDNN[activation]
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, name, [], algorithm)
    if isinstance(x, Tensor) and not _is_watched(layer) and (weights := _weights(layer, x)):
        return activate(kept.product(_to_compute(x), weights), activation)
    return activate(layer(x), activation)


def look_up(table: nn.Module, tokens: Tensor) -> Tensor:
    """`table(tokens)`, the rows of `tokens`: [total, hidden].

    On the CPU the gradient is added row by row: 10 ms for 30,000 tokens on 65,536 rows, where torch's own took 65.
    """
    if type(table) is nn.Embedding and table.padding_idx is None and table.max_norm is None and not table.sparse:
        weight = table.weight
        if weight.requires_grad and weight.device.type == "cpu":
            return weight.index_select(0, tokens)
    return table(tokens)


def linear_mul(layer: nn.Module, x: Tensor | EightBitRows, other: Tensor) -> Tensor:
    """layer(x) * other."""
    if isinstance(layer, EightBitLinear):
        return layer(x).mul_(other)
    if isinstance(x, EightBitRows) or not _fusable(layer, x):
        return linear(layer, x) * other
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, layer.weight, layer.bias, "mul")


def linear_add(layer: nn.Module, x: Tensor | EightBitRows, other: Tensor) -> Tensor:
    """layer(x) + other."""
    if isinstance(layer, EightBitLinear):
        return layer.plus(x, other)
    if isinstance(x, EightBitRows) or not _fusable(layer, x):
        return linear(layer, x) + other
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, layer.weight, layer.bias, "add")


def feed_forward(
    x: Tensor,
    activation: Curve,
    wide: nn.Module,
    narrow: nn.Module,
    up: nn.Module | None = None,
    norm: RmsNorm | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """narrow(activation(wide(x)) * up(x)) + residual, without what is None; of x's norm if any."""
    rows = shared(x, wide, *([] if up is None else [up]), norm=norm)
    if isinstance(wide, EightBitLinear) and isinstance(narrow, EightBitLinear) and isinstance(rows, EightBitRows):
        inner: Tensor | EightBitRows = _active_rows(rows, activation, wide, narrow, up)
    elif not _is_watched(narrow) and (weights := _weights(narrow, x)):
        both = _to_compute(linear(wide, rows)), None if up is None else _to_compute(linear(up, rows))
        out = kept.activated_product(*both, activation, weights)
        return out if residual is None else out + residual
    else:
        active = linear(wide, rows, activation)
        inner = active if up is None else linear_mul(up, rows, active)
    return linear(narrow, inner) if residual is None else linear_add(narrow, inner, residual)


def _active_rows(
    rows: EightBitRows, activation: Curve, wide: EightBitLinear, narrow: EightBitLinear, up: Any
) -> EightBitRows:
    """activation(wide) * up in eight bits, as `narrow` takes it."""

    def work(first: Tensor, scale: Tensor, *others: Tensor) -> Tensor:
        active = _quick(wide.finished(first, scale), activation)
        return active if up is None else active.mul_(up.finished(own_copy(others[0]), scale))

    others = [] if up is None else [up.product(rows)]
    return quantise_rows(wide.product(rows), narrow.factors, work, rows.scale, *others)


def _quick(x: Tensor, activation: Curve) -> Tensor:
    """`activate`; GELU's tanh form by the exact one, a sixth of the time on the CPU.

    They differ by less than 0.0005, which is less than a step of eight bits but for rows that are all small.
    """
    if activation == "silu":
        return F.silu(x, inplace=True)
    return F.gelu(x)


def use_fused_products(model: nn.Module) -> None:
    """Let every plain nn.Linear inside `model`, whoever wrote its forward pass, run through `linear`."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FusedLinear


class FusedLinear(nn.Linear):
    """nn.Linear whose product goes through oneDNN where that is possible."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if weights := _weights(self, input):
            return kept.product(_to_compute(input), weights)
        if not _through_onednn(self, input):
            return F.linear(input, self.weight, self.bias)
        return kept.plain_product(input, self.weight, self.bias)


def _weights(layer: nn.Module, x: Tensor) -> kept.Weights | None:
    """What `kept` multiplies by where gradients are on and it can; else None."""
    if not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return None
    weights = kept.weights_of(layer, (nn.Linear, FusedLinear))
    autocast = torch.is_autocast_enabled(x.device.type)
    return weights if weights and (autocast or weights.weight.dtype == x.dtype) else None


def _fusable(layer: nn.Module, x: Tensor) -> bool:
    return not torch.is_grad_enabled() and not _is_watched(layer) and _through_onednn(layer, x)


def _is_watched(layer: nn.Module) -> bool:
    """Whether somebody waits for the layer to be called (`smoothing.watch`): its product is fused with nothing."""
    return bool(layer._forward_pre_hooks)


def _through_onednn(layer: nn.Module, x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and type(layer) in (nn.Linear, FusedLinear)
        and type(layer.weight) in (nn.Parameter, Tensor)  # no sharded or quantised weight
        and x.dtype == layer.weight.dtype
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_exporting()  # a graph is of operations that other programs know
        and kept.onednn_works(x.dtype)
    )
