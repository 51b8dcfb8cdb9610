"""RMSNorm with its own gradient: x and one number a row are kept for the backward pass."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from udever.model.blocks import alone, by_blocks, precise


@dataclass(frozen=True)
class RmsNorm:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, the statistics in float32 at least.

    `around_one`: multiplied by 1 + weight instead (Gemma). For the backward pass x and one number a row are kept.
    """

    weight: Tensor
    eps: float
    around_one: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """[..., dim] -> the same."""
        if torch.is_grad_enabled():
            return _RmsNorm.apply(x, self.weight, self.eps, self.around_one)  # pyright: ignore[reportReturnType]
        if not alone():
            return _scaled(x, _inverse_size(x, self.eps), self.weight, self.around_one)
        return by_blocks(self.of_rows, x)

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """The norm of x [rows, dim] plus `other`."""
        if not alone():
            return other + self(x)
        return by_blocks(lambda rows, others: self.of_rows(rows).add_(others), x, other)

    def of_rows(self, rows: Tensor) -> Tensor:
        """The norm of rows in float32 at least, in their place, where `alone`."""
        square = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_()
        return rows.mul_(square.div_(rows.shape[-1]).add_(self.eps).rsqrt_()).mul_(self._factors)

    @cached_property
    def _factors(self) -> Tensor:
        weight = self.weight.to(precise(self.weight.dtype))
        return weight + 1 if self.around_one else weight


def _inverse_size(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps): [..., 1], float32 at least."""
    square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise(x.dtype)).square()
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
