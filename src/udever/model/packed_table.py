"""The table of tokens in eight or four bits: whole numbers and scales in a file, floating point again once loaded.

In eight bits a row is int8 with a float32 scale of its own. In four bits two neighbours share a byte, the first of them
in its lower half, as numbers of -8 to 7 around 8, and every 32 of a row have a bfloat16 scale: the best of four.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from udever.errors import ModelError
from udever.model.eight_bits import quantise_weight

Bits = Literal[8, 4]
GROUP = 32
"""Numbers of a row that share a scale in four bits."""

_DIVISORS = (7, 8, 9, 10)
_CHUNK_ROWS = 16384


def pack_table(state: Mapping[str, Tensor], name: str, bits: Bits) -> dict[str, Tensor]:
    """`state` with the weight `name` [rows, width] in so many bits, and its scales as `{name}_scale`.

    Raises ModelError for four bits where the width is no multiple of 32.
    """
    table = state[name].float()
    whole, scale = quantise_weight(table) if bits == 8 else _four_bits(table)
    return {**state, name: whole, f"{name}_scale": scale}


def unpack_tables(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the tables that `pack_table` made as float32 again: what whole numbers and scales say."""
    packed = {name for name in state if state[name].dtype in (torch.int8, torch.uint8) and f"{name}_scale" in state}
    scales = {f"{name}_scale" for name in packed}
    return {
        name: _floats(tensor, state[f"{name}_scale"]) if name in packed else tensor
        for name, tensor in state.items()
        if name not in scales
    }


def _floats(whole: Tensor, scale: Tensor) -> Tensor:
    if whole.dtype == torch.int8:
        return whole * scale[:, None]
    table = torch.empty(len(whole), whole.shape[1] * 2)
    for part, scales, found in zip(
        whole.split(_CHUNK_ROWS), scale.float().split(_CHUNK_ROWS), table.split(_CHUNK_ROWS), strict=True
    ):
        numbers = found.view(len(part), -1, 2)
        numbers[..., 0], numbers[..., 1] = part & 15, part >> 4
        found.sub_(8).view(len(part), -1, GROUP).mul_(scales[..., None])
    return table


def _four_bits(table: Tensor) -> tuple[Tensor, Tensor]:
    rows, width = table.shape
    if width % GROUP:
        raise ModelError(f"rows of {width} numbers do not go into four bits; expected a multiple of {GROUP}")
    whole = torch.empty(rows, width // 2, dtype=torch.uint8)
    scale = torch.empty(rows, width // GROUP, dtype=torch.bfloat16)
    for part, found, scales in zip(
        table.split(_CHUNK_ROWS), whole.split(_CHUNK_ROWS), scale.split(_CHUNK_ROWS), strict=True
    ):
        groups = part.view(len(part), -1, GROUP)
        scales.copy_(_best_scales(groups))
        numbers = (_rounded(groups, scales.float()[..., None]) + 8).to(torch.uint8).view(len(part), -1, 2)
        found.copy_(numbers[..., 0] | numbers[..., 1] << 4)
    return whole, scale


def _best_scales(groups: Tensor) -> Tensor:
    """Of the largest number over each of `_DIVISORS` the one of the smallest squared error: bfloat16 [rows, groups]."""
    largest = groups.abs().amax(-1, keepdim=True)
    scales = [(largest / by).bfloat16().clamp_min(torch.finfo(torch.bfloat16).tiny) for by in _DIVISORS]
    errors = [(_rounded(groups, one.float()) * one.float() - groups).square().sum(-1) for one in scales]
    best = torch.stack(errors).argmin(0, keepdim=True)
    return torch.cat(scales, -1).movedim(-1, 0).gather(0, best)[0]


def _rounded(groups: Tensor, scale: Tensor) -> Tensor:
    return (groups / scale).round().clamp(-8, 7)
