"""Linear layers and embedding tables in eight bits: weights by output channel, activations by token, on the fly.

A token's activations are scaled by their own largest, so that no text feels what shares its batch. Products run through
oneDNN's 8-bit product where the processor has one (VNNI), which is told by computing one; elsewhere on the same whole
numbers in float32, which is slower and gives the same. Activations that are not finite make a scale that is not, and so
vectors that are refused as any others of that kind.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udever.model.blocks import Work, block_rows

_LARGEST = 127
_ZERO = 128
"""Activations are stored without a sign: this is their zero."""
_ROUNDING = float(3 << 22)
"""Added to a small float32, this rounds it to a whole number (half to even), which its low bits then are."""
_TABLE_ROWS = 65536
SCALE = "weight_scale"
SHRINK = "input_shrink"


class EightBitWarning(UserWarning):
    """Eight bits were asked for on a processor that does not multiply them."""


@dataclass(frozen=True)
class EightBitRows:
    """Activations in eight bits: uint8 around 128 [rows, in], and what each row is to be multiplied by, [rows, 1]."""

    values: Tensor
    scale: Tensor

    def __getitem__(self, rows: Tensor) -> "EightBitRows":
        return EightBitRows(self.values[rows], self.scale[rows])


def quantise_rows(x: Tensor, factors: Tensor | None = None, work: Work | None = None, *beside: Tensor) -> EightBitRows:
    """Each row of x [rows, in] as whole numbers of at most 127 times a scale, which is in x's own precision.

    `factors`, float32 [in], are what channels are multiplied by before; `work` is done before that, as `by_blocks` does
    it with x and `beside`.
    """
    step = block_rows(x)
    rows = EightBitRows(torch.empty(x.shape, dtype=torch.uint8, device=x.device), x.new_empty(len(x), 1))
    if len(x) <= step:
        _quantise(x, factors, work, beside, rows)
        return rows
    parts = zip(*(tensor.split(step) for tensor in (x, rows.values, rows.scale, *beside)), strict=True)
    for part, values, scale, *others in parts:
        _quantise(part, factors, work, others, EightBitRows(values, scale))
    return rows


def _quantise(
    x: Tensor, factors: Tensor | None, work: Work | None, beside: Sequence[Tensor], out: EightBitRows
) -> None:
    # float32, where the processor scales and looks for the largest several times as fast as in bfloat16
    precise = x.to(torch.float32, copy=True)
    if work is not None:
        precise = work(precise, *beside)
    if factors is not None:
        precise.mul_(factors)
    largest = torch.maximum(precise.amax(-1, keepdim=True), precise.amin(-1, keepdim=True).neg_())
    kind = out.scale.dtype
    scale = torch.clamp_min(largest.div_(_LARGEST).to(kind), torch.finfo(kind).tiny, out=out.scale)
    inverse = scale.to(torch.float32).reciprocal()
    # half of the time of rounding and converting, of which the second is not vectorised for uint8
    out.values.copy_(precise.mul_(inverse).add_(_ROUNDING + _ZERO).view(torch.int32))


@torch.no_grad()
def quantise_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Int8 [rows, columns] and float32 scales [rows], each row by its own largest."""
    whole, scales = torch.empty_like(weight, dtype=torch.int8), torch.empty(len(weight))
    for part, found, scale in zip(
        weight.split(_TABLE_ROWS), whole.split(_TABLE_ROWS), scales.split(_TABLE_ROWS), strict=True
    ):
        torch.div(part.abs().amax(1).float(), _LARGEST, out=scale).clamp_min_(torch.finfo(torch.float32).tiny)
        found.copy_((part.float() / scale[:, None]).round_())
    return whole, scales


class EightBitLinear(nn.Module):
    """A linear layer of int8 weights [out, in], float32 scales [out] and a bias in the precision of the model.

    `shrink`, int8 [in], are powers of two: channel j of the input is divided by 2 ** shrink[j], and its weights are
    those of the layer times as much. So channels of large activations leave the others their digits (SmoothQuant,
    arXiv 2211.10438).
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, shrink: Tensor | None = None) -> None:
        super().__init__()
        self.weight: Tensor | None
        self.weight_scale: Tensor
        self.register_buffer("weight", weight)
        self.input_shrink: Tensor | None
        self.register_buffer(SCALE, scale)
        self.register_buffer(SHRINK, shrink)
        self.factors: Tensor | None = None
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._packed: Tensor | None = None
        self._zeros: Tensor | None = None

    def shrink(self) -> None:
        """Have the factors of the input's channels ready."""
        if self.input_shrink is not None:
            self.factors = (-self.input_shrink.float()).exp2()

    def pack(self) -> None:
        """Bring the weights into the order in which the processor reads them, in place of the other order."""
        if self.weight is not None and _multiplies_eight_bits():
            self._packed = torch.ops.onednn.qlinear_prepack(self.weight, None)
            self._zeros = torch.zeros(len(self.weight), dtype=torch.int32)
            self.weight = None

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._packed is not None:
            destination[f"{prefix}weight"] = self._packed.to_dense().t().contiguous()

    def forward(self, x: Tensor | EightBitRows) -> Tensor:
        """[..., in] -> [..., out]."""
        if not isinstance(x, EightBitRows) and x.dim() != 2:
            return self(x.flatten(0, -2)).unflatten(0, x.shape[:-1])
        rows = self.rows(x)
        product = self.product(rows)
        if self.bias is None:
            return product.mul_(rows.scale)
        return torch.addcmul(self.bias, product, rows.scale, out=product)

    def finished(self, product: Tensor, scale: Tensor) -> Tensor:
        """`product` of rows of this `scale`, which is changed, as the layer's output."""
        product.mul_(scale)
        return product if self.bias is None else product.add_(self.bias)

    def plus(self, x: Tensor | EightBitRows, other: Tensor) -> Tensor:
        """The layer's output [rows, out] plus `other`."""
        rows = self.rows(x)
        product = self.product(rows)
        total = torch.addcmul(other, product, rows.scale, out=product)
        return total if self.bias is None else total.add_(self.bias)

    def rows(self, x: Tensor | EightBitRows) -> EightBitRows:
        """x in eight bits, as this layer takes it."""
        return x if isinstance(x, EightBitRows) else quantise_rows(x, self.factors)

    def product(self, rows: EightBitRows) -> Tensor:
        """Rows times weights, without the rows' scale and the bias: [rows, out] in the scale's precision."""
        kind = rows.scale.dtype
        if self._packed is not None:
            return torch.ops.onednn.qlinear_pointwise(
                *(rows.values, 1.0, _ZERO, self._packed, self.weight_scale, self._zeros),
                *(None, 1.0, 0, kind, "none", [], ""),
            )
        assert self.weight is not None
        return (F.linear(rows.values.float().sub_(_ZERO), self.weight.float()) * self.weight_scale).to(kind)


class EightBitEmbedding(nn.Module):
    """An embedding table of int8 rows [tokens, width] with a float32 scale each."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.weight: Tensor
        self.weight_scale: Tensor
        self.register_buffer("weight", weight)
        self.register_buffer(SCALE, scale)
        self.out = torch.float32

    def forward(self, tokens: Tensor) -> Tensor:
        """[...] -> [..., width], in the precision of the model."""
        flat = tokens.flatten()
        # a product of int8 and float32 is a twentieth as fast
        rows = self.weight.index_select(0, flat).to(torch.float32)
        rows.mul_(self.weight_scale.index_select(0, flat)[:, None])
        return rows.to(self.out).view(*tokens.shape, rows.shape[1])


@cache
def _multiplies_eight_bits() -> bool:
    """Whether this torch and processor have the 8-bit product and it is exact where sums of pairs leave 16 bits."""
    values = torch.full((2, 64), 255, dtype=torch.uint8)
    weight = torch.full((16, 64), _LARGEST, dtype=torch.int8)
    expected = torch.full((2, 16), (255.0 - _ZERO) * _LARGEST * 64)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        found = torch.ops.onednn.qlinear_pointwise(
            *(values, 1.0, _ZERO, packed, torch.ones(16), torch.zeros(16, dtype=torch.int32)),
            *(None, 1.0, 0, torch.float32, "none", [], ""),
        )
        works = torch.equal(found, expected) and torch.equal(packed.to_dense().t(), weight)
    except (AttributeError, RuntimeError, NotImplementedError):
        works = False
    works = works and torch.cpu._is_vnni_supported()
    if not works:
        told = "this processor has no 8-bit products (VNNI): int8 is computed in float32 here, which is slower"
        warnings.warn(told, EightBitWarning, stacklevel=2)
    return works


def is_eight_bit(model: nn.Module) -> bool:
    """Whether a model holds weights in eight bits."""
    return any(isinstance(module, EightBitLinear | EightBitEmbedding) for module in model.modules())
