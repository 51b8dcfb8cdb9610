"""Attention of short texts as matrix products over tiles: bfloat16 on the CPU, without gradients.

The fused kernel works on one text and head at a time, in blocks larger than most texts. Here texts lie in tiles of few
sizes, several in one where they fit, and tiles of a size are multiplied together. Scores are bfloat16 as they leave the
product, and float32 from there to the weights.
"""

from functools import cache, cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from udever.model.kept import onednn_works
from udever.model.packing import Packed

SIZES = (64, 96, 128, 192, 256, 384, 512)
"""Cells of a tile. There are few, as oneDNN keeps half a megabyte for every shape of a product that it has seen."""
_SCORES = 1 << 18
"""Scores that a thread computes at once: they stay in its cache."""


class _Part(NamedTuple):
    """Tiles of one size that are multiplied together, a power of two of them; `start` is their first cell."""

    start: int
    tiles: int
    size: int

    @property
    def cells(self) -> slice:
        return slice(self.start, self.start + self.tiles * self.size)


class Tiles:
    """The texts of one packed batch, laid into tiles."""

    def __init__(self, packed: Packed, *, causal: bool) -> None:
        self._packed, self._causal = packed, causal
        self._masks: dict[tuple[_Part, int | None], Tensor] = {}

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, slopes: Tensor | None, window: int | None
    ) -> Tensor:
        """`Attention.full`."""
        heads, width = query.shape[1:]
        shared = key.shape[1]
        out = query.new_empty(len(self._token), heads, width)
        for part in self._parts(heads):
            cells, (_, tiles, size) = self._token[part.cells], part
            # [tiles, shared, size, ..., width]: the heads that share a key stand beside one another as rows
            own, seen, given = (
                x.index_select(0, cells).view(tiles, size, shared, -1, width).transpose(1, 2)
                for x in (query, key, value)
            )
            own, seen, given = (x.reshape(tiles * shared, -1, width) for x in (own, seen, given))
            logits = _precise_product(own, seen.transpose(1, 2)).view(tiles, shared, size, -1, size)
            logits = torch.add(self._mask(part, window), logits, alpha=scale)
            if slopes is not None:  # slope * (k - q), but for what a whole row has alike
                behind = slopes.float().view(shared, 1, -1, 1) * self._position[part.cells].view(tiles, 1, 1, 1, size)
                logits.add_(behind)
            weights = torch.softmax(logits, -1).to(query.dtype)
            mixed = torch.bmm(weights.view(tiles * shared, -1, size), given)
            places = out[part.cells].view(tiles, size, shared, -1, width).transpose(1, 2)
            places.copy_(mixed.view(places.shape))
        return out.index_select(0, self._cell)

    def _parts(self, heads: int) -> list[_Part]:
        parts = []
        for start, tiles, size in self._sizes:
            most = max(1, _SCORES * torch.get_num_threads() // (heads * size * size))
            while tiles:
                step = 1 << (min(most, tiles).bit_length() - 1)
                parts.append(_Part(start, step, size))
                start, tiles = start + step * size, tiles - step
        return parts

    def _mask(self, part: _Part, window: int | None) -> Float[Tensor, "tiles 1 size 1 size"]:
        """0 where a cell sees another, -inf elsewhere; cells of no text see one another, so that nothing is NaN."""
        if (part, window) not in self._masks:
            text, position = (x[part.cells].view(part.tiles, part.size) for x in (self._text, self._position))
            ahead = position[:, None, :] - position[:, :, None]
            seen = text[:, None, :] == text[:, :, None]
            if self._causal:
                seen &= ahead <= 0
            if window is not None:
                seen &= ahead.abs() < window
            mask = torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))
            self._masks[part, window] = mask[:, None, :, None, :]
        return self._masks[part, window]

    @cached_property
    def _layout(self) -> dict[int, list[list[int]]]:
        """The texts of each tile, by size."""
        by_size: dict[int, list[list[int]]] = {}
        open_tiles: list[tuple[int, list[int]]] = []
        lengths = self._packed.lengths
        for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            place = next((i for i, (room, _) in enumerate(open_tiles) if room >= lengths[row]), None)
            if place is None:
                size = next(size for size in SIZES if size >= lengths[row])
                place = len(open_tiles)
                open_tiles.append((size, []))
                by_size.setdefault(size, []).append(open_tiles[-1][1])
            room, texts = open_tiles[place]
            texts.append(row)
            open_tiles[place] = room - lengths[row], texts
        return by_size

    @cached_property
    def _sizes(self) -> list[tuple[int, int, int]]:
        """First cell, number of tiles and their size."""
        start, sizes = 0, []
        for size, tiles in self._layout.items():
            sizes.append((start, len(tiles), size))
            start += len(tiles) * size
        return sizes

    @cached_property
    def _cell(self) -> Int[Tensor, "tokens"]:
        """The cell of each token."""
        starts = [0] * len(self._packed.lengths)
        for (start, _, size), tiles in zip(self._sizes, self._layout.values(), strict=True):
            for index, texts in enumerate(tiles):
                place = start + index * size
                for row in texts:
                    starts[row] = place
                    place += self._packed.lengths[row]
        return torch.tensor(starts)[self._packed.text_of_token] + self._packed.positions

    @cached_property
    def _token(self) -> Int[Tensor, "cells"]:
        """The token of each cell; the first for cells of none."""
        start, tiles, size = self._sizes[-1]
        cells = torch.zeros(start + tiles * size, dtype=torch.int64)
        return cells.index_copy(0, self._cell, torch.arange(len(self._cell)))

    @cached_property
    def _text(self) -> Int[Tensor, "cells"]:
        return torch.full_like(self._token, -1).index_copy(0, self._cell, self._packed.text_of_token)

    @cached_property
    def _position(self) -> Int[Tensor, "cells"]:
        return torch.zeros_like(self._token).index_copy(0, self._cell, self._packed.positions)


def _precise_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in float32 of bfloat16 products: what the first is rounded by is the second, whose sum is float32 inside.

    Rounded to bfloat16 alone, scores of 20 are 0.06 off, and pretrained models have such.
    """
    high = torch.bmm(a, b)
    return high.float().add_(torch.baddbmm(high, a, b, beta=-1).float())


@cache
def bfloat16_works() -> bool:
    """Whether the processor multiplies bfloat16, and oneDNN does it."""
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has and onednn_works(torch.bfloat16)
