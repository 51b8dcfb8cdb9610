"""Attention over a packed batch, by the kernel that suits the hardware.

Two kernels with one meaning. `GroupedAttention` (CPU and any device) runs scaled_dot_product_attention
over runs of texts of near-equal length; `FlexAttention` (CUDA) runs one fused kernel over the whole batch
with the text boundaries as a block mask. Both add ALiBi in float32, relative to each text:
slope * (k - q) for a causal model, -slope * |k - q| where attention is bidirectional.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from udever.model import tiles
from udever.model.packing import Packed

_MAX_PADDING = 1.2
"""A run of texts may grow until its rectangle holds this many times its tokens."""


@dataclass(frozen=True)
class ScoreRule:
    """How one layer turns products into weights.

    `scale` multiplies q.k. `slopes` are ALiBi's, one per head. `window`: a token sees itself and the
    `window - 1` before it.
    """

    scale: float
    slopes: Float[Tensor, "heads"] | None = None
    window: int | None = None


class Attention(Protocol):
    """Attention over the texts of one packed batch; no token sees another text."""

    packed: Packed
    causal: bool

    def full(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """Every token attends. query [total, heads, dim]; key and value [total, kv_heads, dim]."""
        ...

    def last(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """Each text's closing token alone attends. query [texts, heads, dim] -> the same shape."""
        ...


def attention_over(packed: Packed, *, causal: bool) -> Attention:
    """The kernel for the device that holds `packed`."""
    if packed.tokens.device.type == "cuda":
        return FlexAttention(packed, causal=causal)
    return GroupedAttention(packed, causal=causal)


@dataclass(frozen=True)
class _Run:
    """Neighbouring texts of near-equal length, seen as a rectangle of `length` columns."""

    lengths: tuple[int, ...]
    start: int
    length: int
    spread: Int[Tensor, "cells"] | None
    """Which token of the run is behind each cell (a text's last repeats); None where the rectangle is the run."""
    kept: Int[Tensor, "tokens"] | None
    """The cells that hold a token of their own."""
    front: int = 0
    """As many tokens, those at the very beginning of the batch, stand in front of each text."""

    def rectangle(self, x: Tensor) -> Tensor:
        """The run's tokens [tokens, heads, dim] -> [texts, heads, length, dim]."""
        cells = x if self.spread is None else x.index_select(0, self.spread)
        return cells.view(len(self.lengths), self.length, *x.shape[1:]).transpose(1, 2)

    def columns(self, x: Tensor, front: Tensor) -> Tensor:
        """What the run's texts may see: its tokens behind those of the front -> [texts, heads, front + length, dim]."""
        own = self.rectangle(x)
        if not self.front:
            return own
        return torch.cat((front.transpose(0, 1).expand(len(self.lengths), -1, -1, -1), own), 2)


def _make_run(lengths: tuple[int, ...], start: int, device: torch.device, front: int) -> _Run:
    longest = max(lengths)
    if min(lengths) == longest:
        return _Run(lengths, start, longest, None, None, front)
    sizes = torch.tensor(lengths)
    starts = sizes.cumsum(0) - sizes
    column = torch.arange(longest)
    spread = (starts[:, None] + torch.minimum(column, sizes[:, None] - 1)).flatten()
    kept = (column < sizes[:, None]).flatten().nonzero().flatten()
    return _Run(lengths, start, longest, spread.to(device), kept.to(device), front)


def _runs(packed: Packed) -> list[_Run]:
    runs: list[_Run] = []
    first, start = 0, packed.front
    while first < len(packed.lengths):
        longest = total = packed.lengths[first]
        stop = first + 1
        while stop < len(packed.lengths):
            longest = max(longest, packed.lengths[stop])
            if longest * (stop + 1 - first) > _MAX_PADDING * (total + packed.lengths[stop]):
                break
            total += packed.lengths[stop]
            stop += 1
        runs.append(_make_run(packed.lengths[first:stop], start, packed.tokens.device, packed.front))
        first, start = stop, start + total
    return runs


class GroupedAttention:
    """`Attention` by scaled_dot_product_attention over runs of near-equal length.

    Right-hand cells of a rectangle repeat a text's last token: behind a causal mask they are never seen,
    otherwise a mask hides them; their own rows are dropped.
    """

    def __init__(self, packed: Packed, *, causal: bool) -> None:
        self.packed = packed
        self.causal = causal
        assert causal or not packed.front, "what stands in front of all texts sees none of them"
        self.runs = _runs(packed)
        self._front = [_make_run((packed.front,), 0, packed.tokens.device, 0)] if packed.front else []
        self._biases: dict[object, Tensor | None] = {}

    def full(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """See `Attention.full`."""
        if self._take_tiles(query, scores.slopes):
            return self._tiles.attend(query, key, value, scores.scale, scores.slopes, scores.window)
        parts = []
        runs = [*self._front, *self.runs]
        for run, own, *seen in zip(runs, *map(self._by_run, (query, key, value)), strict=True):
            keys, values = (run.columns(x, whole[: run.front]) for x, whole in zip(seen, (key, value), strict=True))
            out = self._attend(run, run.rectangle(own), keys, values, scores)
            cells = out.transpose(1, 2).reshape(-1, *query.shape[1:])
            parts.append(cells if run.kept is None else cells.index_select(0, run.kept))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _take_tiles(self, query: Tensor, slopes: Tensor | None) -> bool:
        """Whether tiles are right for these and faster than the fused kernel."""
        packed = self.packed
        return (
            _is_unfollowed(query)
            and (slopes is None or self.causal)
            and not packed.front
            and len(packed.tokens) >= tiles.SIZES[0]
            and max(packed.lengths) <= tiles.SIZES[-1]
            and tiles.bfloat16_works()
        )

    @cached_property
    def _tiles(self) -> tiles.Tiles:
        return tiles.Tiles(self.packed, causal=self.causal)

    def last(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """See `Attention.last`."""
        parts = []
        closing = query.split([len(run.lengths) for run in self.runs])
        of_texts = (self._by_run(x)[len(self._front) :] for x in (key, value))
        for run, own, *seen in zip(self.runs, closing, *of_texts, strict=True):
            keys, values = (run.columns(x, whole[: run.front]) for x, whole in zip(seen, (key, value), strict=True))
            parts.append(self._attend(run, own.unsqueeze(2), keys, values, scores).squeeze(2))
        return torch.cat(parts)

    def _by_run(self, x: Tensor) -> tuple[Tensor, ...]:
        """The rows of each run, those in front of all first: views, whose gradients are put together once and not, as
        slices', run by run.
        """
        return x.split([sum(run.lengths) for run in (*self._front, *self.runs)])

    def _attend(self, run: _Run, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """query [texts, heads, length or 1, dim]; key and value as `_Run.columns` gives them."""
        if query.shape[2] == run.length:
            key, value = _shared(key, query.shape[1]), _shared(value, query.shape[1])
            bias = self._bias(run, scores, query.dtype)
            plain = bias is None and self.causal
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask=bias, is_causal=plain, scale=scores.scale
            )
        bias = self._last_bias(run, scores, query.dtype)
        # one query a text: those that share a key head become its rows, and no key is repeated
        groups = key.shape[1]
        rows = query.reshape(len(query), groups, -1, query.shape[3])
        if bias is not None and bias.shape[1] > 1:
            bias = bias.reshape(len(bias), groups, -1, bias.shape[3])
        if rows.shape[2] == 1 and _is_unfollowed(query):
            # the kernel takes up to nine times as long for a single row in bfloat16, conversions included
            rows, key, value = rows.float(), key.float(), value.float()
        out = F.scaled_dot_product_attention(rows, key, value, attn_mask=bias, scale=scores.scale)
        return out.to(query.dtype).reshape_as(query)

    def _bias(self, run: _Run, scores: ScoreRule, dtype: torch.dtype) -> Tensor | None:
        """What is added to the products of a rectangle; None where `is_causal` or nothing says it all."""
        window = scores.window if scores.window is not None and scores.window < run.front + run.length else None
        hidden_cells = not self.causal and run.kept is not None
        if scores.slopes is None and window is None and not hidden_cells and not run.front:
            return None
        key = (run.start, window, id(scores.slopes), dtype)
        if key not in self._biases:
            self._biases[key] = self._build_bias(run, scores.slopes, window, dtype)
        return self._biases[key]

    def _build_bias(
        self, run: _Run, slopes: Tensor | None, window: int | None, dtype: torch.dtype
    ) -> Float[Tensor, "texts heads length columns"]:
        place = torch.arange(run.front + run.length, device=self.packed.tokens.device)
        ahead = place[None, :] - place[run.front :, None]  # k - q
        seen = ahead <= 0 if self.causal else torch.ones_like(ahead, dtype=torch.bool)
        if window is not None:
            seen = seen & (ahead > -window) & (ahead < window)
        seen = seen[None, None]
        if not self.causal:
            sizes = torch.tensor(run.lengths, device=place.device)
            seen = seen & (place < sizes[:, None])[:, None, None, :]
        return _masked_bias(-ahead.abs()[None, None], slopes, seen, dtype)

    def _last_bias(self, run: _Run, scores: ScoreRule, dtype: torch.dtype) -> Tensor | None:
        sizes = torch.tensor(run.lengths, device=self.packed.tokens.device) + run.front
        place = torch.arange(run.front + run.length, device=sizes.device)
        behind = (place - (sizes[:, None] - 1))[:, None, None, :]  # k - q, q the closing token
        seen = behind <= 0
        if scores.window is not None:
            seen = seen & (behind > -scores.window)
        if scores.slopes is None and bool(seen.all()):
            return None
        return _masked_bias(behind, scores.slopes, seen, dtype)


def _is_unfollowed(query: Tensor) -> bool:
    """Whether it is bfloat16 on the CPU and nobody follows the operations: no gradients, no graph."""
    followed = torch.is_grad_enabled() or torch.compiler.is_exporting()
    return query.dtype == torch.bfloat16 and query.device.type == "cpu" and not followed


def _shared(x: Tensor, heads: int) -> Tensor:
    """Key or value heads, each as often as query heads share it: a view where there is one, copies otherwise.

    enable_gqa=True leaves the fast kernel on the CPU.
    """
    if x.shape[1] in (1, heads):
        return x.expand(-1, heads, -1, -1)
    return x.repeat_interleave(heads // x.shape[1], 1)


def _masked_bias(distance: Tensor, slopes: Tensor | None, seen: Tensor, dtype: torch.dtype) -> Tensor:
    """slopes * distance where `seen`, -inf elsewhere.

    Computed in float32 and left so for half-precision queries on the CPU, whose kernel takes a float32
    mask: bfloat16 would round distances above 256.
    """
    precise = torch.promote_types(dtype, torch.float32)  # a float32 mask beside float64 queries gives garbage
    if slopes is None:
        bias = torch.zeros((), device=seen.device, dtype=precise)
    else:
        bias = slopes.to(precise).view(1, -1, 1, 1) * distance
    bias = torch.where(seen, bias, float("-inf"))
    return bias if bias.device.type == "cpu" else bias.to(dtype)


ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@cache
def _flex(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention  # pyright: ignore[reportReturnType]


class FlexAttention:
    """`Attention` in one fused kernel: text boundaries as a block mask, ALiBi as a score modification.

    Compiled on CUDA; elsewhere it runs as plain tensor operations, which is how its arithmetic is tested.
    """

    def __init__(self, packed: Packed, *, causal: bool) -> None:
        self.packed = packed
        self.causal = causal
        self._masks: dict[tuple[bool, int | None], object] = {}

    def full(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """See `Attention.full`."""
        return self._attend(query, key, value, scores, last=False)

    def last(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """See `Attention.last`."""
        return self._attend(query, key, value, scores, last=True)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule, *, last: bool) -> Tensor:
        out = _flex(query.device.type == "cuda")(
            query.transpose(0, 1)[None],
            key.transpose(0, 1)[None],
            value.transpose(0, 1)[None],
            score_mod=None if scores.slopes is None else self._alibi(scores.slopes, last=last),
            block_mask=self._mask(scores.window, last=last),
            scale=scores.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return out[0].transpose(0, 1)

    def _places(self, *, last: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Text and position of each query, then of each key."""
        text, position = self.packed.text_of_token, self.packed.positions
        if last:
            return text[self.packed.last], position[self.packed.last], text, position
        return text, position, text, position

    def _alibi(self, slopes: Tensor, *, last: bool) -> ScoreMod:
        _, query_position, _, key_position = self._places(last=last)
        slopes = slopes.float()

        def add(score: Tensor, b: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return score - slopes[head] * (key_position[k] - query_position[q]).abs()

        return add

    def _mask(self, window: int | None, *, last: bool) -> object:
        from torch.nn.attention.flex_attention import create_block_mask

        if (last, window) not in self._masks:
            query_text, query_position, key_text, key_position = self._places(last=last)
            causal = self.causal

            def seen(b: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
                ahead = key_position[k] - query_position[q]
                visible = (query_text[q] == key_text[k]) | (key_text[k] < 0)  # what is in front of all
                if causal:
                    visible = visible & (ahead <= 0)
                if window is not None:
                    visible = visible & (ahead > -window) & (ahead < window)
                return visible

            self._masks[last, window] = create_block_mask(
                seen, None, None, len(query_text), len(key_text), device=str(query_text.device)
            )
        return self._masks[last, window]
