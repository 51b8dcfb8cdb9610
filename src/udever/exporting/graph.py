"""The path from token ids to unit vectors as one function of two rectangles, which exporters write down as a graph.

The forward pass is the embedder's own. What differs is the kernel below it: texts lie in the rows of a rectangle that
is filled up on either side, and attention is plain products over it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udever.embedder import Embedder
from udever.model.attention import ScoreRule
from udever.model.contract import Contract


class Rectangle:
    """Texts in rows, flattened, under the names by which a forward pass asks a packed batch. `mask` is 1 on tokens."""

    def __init__(self, ids: Tensor, mask: Tensor) -> None:
        self.mask = mask
        self.shape = ids.shape
        self.tokens = ids.flatten()
        self.places = (mask.cumsum(1) - 1).clamp_min(0)
        self.positions = self.places.flatten()
        rows, columns = ids.shape
        closing = (torch.arange(columns, device=ids.device) * mask).argmax(1)
        self.last = torch.arange(rows, device=ids.device) * columns + closing


class GraphAttention:
    """`Attention` over a rectangle: no token sees what fills it up."""

    def __init__(self, packed: Rectangle, *, causal: bool) -> None:
        self.packed: Any = packed
        self.causal = causal

    def full(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """See `Attention.full`."""
        rows, columns = self.packed.shape
        places = torch.arange(columns, device=query.device)
        # a cell that is no token sees itself: a row that sees nothing would be no number
        own = (places[:, None] == places)[None]
        out = self._attend(query.view(rows, columns, *query.shape[1:]), key, value, scores, self.packed.places, own)
        return out.flatten(0, 1)

    def last(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """See `Attention.last`."""
        place = self.packed.positions[self.packed.last][:, None]
        return self._attend(query[:, None], key, value, scores, place, None)[:, 0]

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule, places: Tensor, own: Tensor | None
    ) -> Tensor:
        """query [rows, asked, heads, dim] at `places` [rows, asked] -> the same shape."""
        rows, columns = self.packed.shape
        groups = query.shape[2] // key.shape[1]
        key, value = (
            x.view(rows, columns, *x.shape[1:]).repeat_interleave(groups, 2).transpose(1, 2) for x in (key, value)
        )
        ahead = self.packed.places[:, None, :] - places[:, :, None]
        seen = (self.packed.mask != 0)[:, None, :].expand_as(ahead)
        if self.causal:
            seen = seen & (ahead <= 0)
        if scores.window is not None:
            seen = seen & (ahead.abs() < scores.window)
        if own is not None:
            seen = seen | own
        products = query.transpose(1, 2) @ key.transpose(2, 3) * scores.scale
        if scores.slopes is not None:
            products = products - scores.slopes.view(1, -1, 1, 1) * ahead.abs()[:, None]
        weights = products.masked_fill(~seen[:, None], float("-inf")).softmax(-1)
        return (weights @ value).transpose(1, 2)


class Graph(nn.Module):
    """Token ids [texts, tokens] and a mask of the same shape to vectors [texts, dimensions], as the contract says."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.backbone: Any = embedder.backbone
        self.contract: Contract = embedder.contract

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The closing token's hidden state, or a mean; cut to the contract's dimensions and scaled to length 1."""
        contract = self.contract
        packed = Rectangle(input_ids, attention_mask)
        attention = GraphAttention(packed, causal=contract.attention == "causal")
        if contract.pooling == "last":
            pooled = self.backbone(attention, last_only=True)
        else:
            hidden = self.backbone(attention).unflatten(0, packed.shape)
            weights = attention_mask if contract.pooling == "mean" else attention_mask * (packed.places + 1)
            weights = weights.to(hidden.dtype)[:, :, None]
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        cut = pooled[:, : contract.dimensions]
        return F.normalize(cut, dim=-1) if contract.normalize else cut
