"""Matrix products with gradients, and how little they keep for the backward pass.

A product keeps its input, once however many products take it, and not that where its weight is frozen and no LoRA
sits on it. Weights are kept by reference: under autocast torch's own product keeps a half-precision copy of each
weight for every micro-batch. The input of a feed-forward block's second product is made again from what the first
gave.
"""

from functools import cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Curve = Literal["gelu", "gelu_tanh", "silu"]
Activation = Literal["none"] | Curve


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply `activation` as a plain operation."""
    if activation in ("gelu", "gelu_tanh"):
        return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")
    return F.silu(x) if activation == "silu" else x


class Weights(NamedTuple):
    """What makes x @ weight.T + bias + scaling * x @ down.T @ up.T; without LoRA down and up are None."""

    weight: Tensor
    bias: Tensor | None
    down: Tensor | None = None
    up: Tensor | None = None
    scaling: float = 0.0


def weights_of(layer: nn.Module, plain: tuple[type, ...]) -> Weights | None:
    """The weights of a layer of one of the types `plain`, or of peft's plain LoRA around one; None for any other."""
    if type(layer) in plain:
        return Weights(layer.weight, layer.bias) if _is_whole(layer.weight) else None  # pyright: ignore[reportArgumentType]
    base = getattr(layer, "base_layer", None)
    if type(base) not in plain or not hasattr(layer, "lora_A"):
        return None
    return _lora_weights(layer, base)


def _is_whole(weight: Any) -> bool:
    return type(weight) in (nn.Parameter, Tensor)  # no sharded or quantised weight


def _lora_weights(layer: Any, base: Any) -> Weights | None:
    names = layer.active_adapters
    if len(names) != 1 or layer.disable_adapters or layer.merged or layer.lora_variant:
        return None
    down, up, dropout = (part[names[0]] for part in (layer.lora_A, layer.lora_B, layer.lora_dropout))
    usual = type(dropout) is nn.Identity and up.bias is None
    parts = (base.weight, down.weight, up.weight)
    if not usual or not all(_is_whole(part) for part in parts) or base.weight.requires_grad:
        return None
    return Weights(base.weight, base.bias, down.weight, up.weight, layer.scaling[names[0]])


def product(x: Tensor, weights: Weights) -> Tensor:
    """x [..., in] times `weights`, with gradients, in the precision of x: [..., out]."""
    return _Product.apply(x.contiguous(), *weights)  # pyright: ignore[reportReturnType]


def activated_product(wide: Tensor, up: Tensor | None, activation: Curve, weights: Weights) -> Tensor:
    """activation(wide) * up (without up: 1) times `weights`, with gradients; wide and up alone are kept."""
    return _ActivatedProduct.apply(wide, up, activation, *weights)  # pyright: ignore[reportReturnType]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parts: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        weights = Weights(*parts)
        out, low = _multiply(x, weights)
        needs_x = ctx.needs_input_grad[1] or ctx.needs_input_grad[3]
        ctx.save_for_backward(x if needs_x else None, low, weights.weight, weights.down, weights.up)
        ctx.scaling = weights.scaling
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, low, weight, down, up = ctx.saved_tensors
        to_low = _to_low(gradient, up, ctx.scaling)
        to_x = _to_x(gradient, to_low, weight, down) if ctx.needs_input_grad[0] else None
        return to_x, *_to_weights(ctx.needs_input_grad[1:], gradient, to_low, x, (low, weight, down, up), ctx.scaling)


class _ActivatedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: Tensor, other: Tensor | None, activation: Curve, *parts: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        weights, active = Weights(*parts), activate(wide, activation)
        out, low = _multiply(active if other is None else active.mul_(other), weights)
        ctx.save_for_backward(wide, other, low, weights.weight, weights.down, weights.up)
        ctx.activation, ctx.scaling = activation, weights.scaling
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        wide, other, low, weight, down, up = ctx.saved_tensors
        needs = ctx.needs_input_grad
        to_low = _to_low(gradient, up, ctx.scaling)
        with torch.enable_grad():
            own = wide.detach().requires_grad_()
            active = activate(own, ctx.activation)
        plain = active.detach()
        x = None
        if needs[3] or needs[5]:
            x = plain if other is None else plain * other
        to_weights = _to_weights(needs[3:], gradient, to_low, x, (low, weight, down, up), ctx.scaling)
        to_wide = to_other = None
        if needs[0] or needs[1]:
            to_x = _to_x(gradient, to_low, weight, down)
            to_other = None if other is None else to_x * plain
            (to_wide,) = torch.autograd.grad(active, own, to_x if other is None else to_x.mul_(other))
        return to_wide, to_other, None, *to_weights


def _multiply(x: Tensor, weights: Weights) -> tuple[Tensor, Tensor | None]:
    """The product, and what LoRA's first matrix gives."""
    out = plain_product(x, weights.weight.to(x.dtype), _cast(weights.bias, x.dtype))
    if weights.down is None or weights.up is None:
        return out, None
    low = F.linear(x, weights.down.to(x.dtype))
    rows = out.view(-1, out.shape[-1])
    rows.addmm_(low.flatten(0, -2), weights.up.to(x.dtype).t(), alpha=weights.scaling)
    return out, low


def _cast(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else x.to(dtype)


def _to_low(gradient: Tensor, up: Tensor | None, scaling: float) -> Tensor | None:
    return None if up is None else F.linear(gradient, up.to(gradient.dtype).t()).mul_(scaling)


def _to_x(gradient: Tensor, to_low: Tensor | None, weight: Tensor, down: Tensor | None) -> Tensor:
    to_x = plain_product(gradient.contiguous(), weight.to(gradient.dtype).t(), None)
    if to_low is not None and down is not None:
        to_x.view(-1, to_x.shape[-1]).addmm_(to_low.flatten(0, -2), down.to(gradient.dtype))
    return to_x


def _to_weights(
    needs: Any, gradient: Tensor, to_low: Tensor | None, x: Tensor | None, kept: tuple[Any, ...], scaling: float
) -> tuple[Tensor | None, ...]:
    """Gradients of weight, bias, down, up, and none of the scaling."""
    low, weight, down, up = kept
    rows = gradient.flatten(0, -2)
    to_weight = to_bias = to_down = to_up = None
    if needs[0] and x is not None:
        to_weight = plain_product(rows.t(), x.flatten(0, -2).t(), None).to(weight.dtype)
    if needs[1]:
        to_bias = rows.sum(0, dtype=weight.dtype)
    if needs[2] and x is not None and to_low is not None:
        to_down = (to_low.flatten(0, -2).t() @ x.flatten(0, -2)).to(down.dtype)
    if needs[3]:
        to_up = (rows.t() @ low.flatten(0, -2)).mul_(scaling).to(up.dtype)
    return to_weight, to_bias, to_down, to_up, None


def plain_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias without a gradient, through oneDNN where that is possible."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and onednn_works(x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


@cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Whether torch has the operations in this build and precision, and they compute what `F.linear` computes.

    On processors without AVX-512 oneDNN has no products in bfloat16; torch's own are slow there, but right.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    x, weight = torch.linspace(-1, 1, 12).view(3, 4).to(dtype), torch.linspace(-2, 1, 8).view(2, 4).to(dtype)
    bias, other = torch.ones(2, dtype=dtype), torch.ones(3, 2, dtype=dtype)
    try:
        fused = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
        both = torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, "add")
    except (AttributeError, RuntimeError):
        return False
    with torch.autocast("cpu", enabled=False):  # whoever asks first may be under it
        plain = F.linear(x.float(), weight.float(), bias.float())
    near = 1e-5 if dtype == torch.float32 else 0.05
    return torch.allclose(fused.float(), F.gelu(plain, approximate="tanh"), atol=near) and torch.allclose(
        both.float(), plain + 1, atol=near
    )
