"""Matrix products of the forward pass, with the operation behind each product fused into it on the CPU.

torch's `F.linear` takes the vendor's library for float32 on the CPU, which on some processors runs at well
under half the speed of oneDNN, and it writes the result to memory before the activation reads it again.
The oneDNN operations that torch's own compiler emits do both at once and need no compiler at run time.
They have no gradient: with gradients on, the product alone goes there, by a function of ours, and on every
other device the plain operations run.
`bench/encode.py` shows what this is worth.
"""

from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udever.model.eight_bits import EightBitLinear, Rows

Activation = Literal["none", "gelu", "gelu_tanh", "silu"]

_ONEDNN = {"none": ("none", ""), "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "silu": ("swish", "")}


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply `activation` as a plain operation."""
    if activation in ("gelu", "gelu_tanh"):
        return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")
    return F.silu(x) if activation == "silu" else x


class _Product(torch.autograd.Function):
    """x @ weight.T + bias through oneDNN, and so its two backward products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        # a frozen weight, LoRA's and BitFit's, needs no x
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _plain_product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = _plain_product(gradient.contiguous(), weight.t(), None)
        rows = gradient.flatten(0, -2)
        if ctx.needs_input_grad[1]:
            to_weight = _plain_product(rows.t(), x.flatten(0, -2).t(), None)
        if ctx.needs_input_grad[2]:
            to_bias = rows.sum(0)
        return to_x, to_weight, to_bias


def _plain_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def shared(x: Tensor, *layers: nn.Module) -> Any:
    """x as all of `layers` take it: brought into eight bits once, where they all are and scale its channels alike."""
    first = layers[0]
    if not isinstance(first, EightBitLinear):
        return x
    alike = all(isinstance(layer, EightBitLinear) and layer.factors is first.factors for layer in layers)
    return first.rows(x) if alike else x


def linear(layer: nn.Module, x: Tensor | Rows, activation: Activation = "none") -> Tensor:
    """activation(layer(x)); `layer` is an nn.Linear, one in eight bits, or an adapter around one."""
    if isinstance(layer, EightBitLinear):
        return _activate_rounded(layer(x), activation)
    if isinstance(x, Tensor) and _fusable(layer, x):
        name, algorithm = _ONEDNN[activation]
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, name, [], algorithm)
    return activate(layer(x), activation)


def _activate_rounded(x: Tensor, activation: Activation) -> Tensor:
    """`activate`; in half precision GELU's tanh form by the exact one, a sixth of the time on the CPU.

    They differ by less than 0.0005, and bfloat16 keeps less than that of numbers where they do.
    """
    if activation == "gelu_tanh" and x.dtype == torch.bfloat16:
        return F.gelu(x)
    return activate(x, activation)


def linear_mul(layer: nn.Module, x: Tensor | Rows, other: Tensor) -> Tensor:
    """layer(x) * other."""
    if isinstance(layer, EightBitLinear):
        return layer(x).mul_(other)
    if isinstance(x, Rows) or not _fusable(layer, x):
        return layer(x) * other
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, layer.weight, layer.bias, "mul")


def linear_add(layer: nn.Module, x: Tensor | Rows, other: Tensor) -> Tensor:
    """layer(x) + other."""
    if isinstance(layer, EightBitLinear):
        return layer.plus(x, other)
    if isinstance(x, Rows) or not _fusable(layer, x):
        return layer(x) + other
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, layer.weight, layer.bias, "add")


def gated(gate: nn.Module, up: nn.Module, x: Tensor, activation: Activation) -> Tensor:
    """activation(gate(x)) * up(x). For the backward pass both factors are kept; what stands between is made again."""
    if torch.is_grad_enabled():
        return _Gated.apply(gate(x), up(x), activation)  # pyright: ignore[reportReturnType]
    rows = shared(x, gate, up)
    return linear_mul(up, rows, linear(gate, rows, activation))


class _Gated(torch.autograd.Function):
    """activation(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: Activation) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return activate(gate, activation).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gate, up = ctx.saved_tensors
        with torch.enable_grad():
            own = gate.detach().requires_grad_()
            active = activate(own, ctx.activation)
        (to_gate,) = torch.autograd.grad(active, own, gradient * up)
        return to_gate, gradient * active.detach(), None


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, around_one: bool = False) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, the statistics in float32 at least.

    `around_one`: multiplied by 1 + weight instead (Gemma). Two reads of x instead of the five of `F.rms_norm`, which
    on the CPU is a chain of plain operations. For the backward pass x and one number a row are kept.
    """
    if torch.is_grad_enabled():
        return _RmsNorm.apply(x, weight, eps, around_one)  # pyright: ignore[reportReturnType]
    return _scaled(x, _inverse_size(x, eps), weight, around_one)


def _inverse_size(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps): [..., 1], float32 at least."""
    precise = torch.promote_types(x.dtype, torch.float32)
    square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise).square()
    return torch.rsqrt(square / x.shape[-1] + eps)


def _scaled(x: Tensor, factor: Tensor, weight: Tensor, around_one: bool) -> Tensor:
    normed = _times(x, factor)
    return torch.addcmul(normed, normed, weight) if around_one else normed * weight


def _times(x: Tensor, factor: Tensor) -> Tensor:
    """x * factor in x's precision; the factor as a sum of two halves keeps its own without a float32 copy of x."""
    if x.dtype == factor.dtype:
        return x * factor
    high = factor.to(x.dtype)
    low = (factor - high).to(x.dtype)
    return torch.addcmul(x * high, x, low)


class _RmsNorm(torch.autograd.Function):
    """`rms_norm` that keeps its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, around_one: bool) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        factor = _inverse_size(x, eps)
        ctx.save_for_backward(x, weight, factor)
        ctx.around_one = around_one
        return _scaled(x, factor, weight, around_one)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, factor = ctx.saved_tensors
        normed = _times(x, factor)
        to_x = to_weight = None
        if ctx.needs_input_grad[1]:
            rows = (gradient * normed).flatten(0, -2)
            to_weight = rows.sum(0, dtype=factor.dtype).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            inner = torch.addcmul(gradient, gradient, weight) if ctx.around_one else gradient * weight
            along = (inner * normed).sum(-1, keepdim=True, dtype=factor.dtype) / x.shape[-1]
            to_x = _times(inner - _times(normed, along), factor)
        return to_x, to_weight, None, None


def use_fused_products(model: nn.Module) -> None:
    """Let every plain nn.Linear inside `model`, whoever wrote its forward pass, run through `linear`."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FusedLinear


class FusedLinear(nn.Linear):
    """nn.Linear whose product goes through oneDNN where that is possible."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if not _through_onednn(self, input):
            return F.linear(input, self.weight, self.bias)
        if torch.is_grad_enabled():
            return _Product.apply(input, self.weight, self.bias)  # pyright: ignore[reportReturnType]
        return _plain_product(input, self.weight, self.bias)


def _fusable(layer: nn.Module, x: Tensor) -> bool:
    return not torch.is_grad_enabled() and _through_onednn(layer, x)


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
        and _onednn_works()
    )


@cache
def _onednn_works() -> bool:
    """Whether this build of torch has the operations and they compute what `F.linear` computes."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    x, weight, bias = torch.linspace(-1, 1, 12).view(3, 4), torch.linspace(-2, 1, 8).view(2, 4), torch.ones(2)
    try:
        fused = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
        both = torch.ops.mkldnn._linear_pointwise.binary(x, torch.ones(3, 2), weight, bias, "add")
    except (AttributeError, RuntimeError):
        return False
    plain = F.linear(x, weight, bias)
    return torch.allclose(fused, F.gelu(plain, approximate="tanh"), atol=1e-5) and torch.allclose(
        both, plain + 1, atol=1e-5
    )
