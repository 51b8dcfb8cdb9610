"""`Bloom.forward(..., last_only=True)` for training on a CPU: the same function of the same weights, cheaper.

In the last layer only the closing token asks. Its keys and values then need no product per token: q.(Wk x) is
(Wk' q).x, and the weighted sum of Wv x is Wv times the weighted sum of x. What is left per token is two products
with one vector per head. Of a network with a single layer, the norms are taken once per distinct token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from udever.model.attention import attention_over
from udever.model.bloom import Bloom, BloomBlock
from udever.model.packing import Packed

MAX_PADDING = 1.25


def runs(lengths: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last-but-one text of runs of near-equal length; `lengths` are sorted, longest first."""
    found, first = [], 0
    while first < len(lengths):
        stop = first + 1
        while stop < len(lengths) and lengths[stop] * MAX_PADDING >= lengths[first]:
            stop += 1
        found.append((first, stop))
        first = stop
    return found


def pooled(block: BloomBlock, cells: Tensor, last: Tensor, distance: Tensor) -> Tensor:
    """What the closing tokens of one rectangle hear.

    cells [texts, length, hidden] are normed, last [texts, hidden] the closing ones; distance [texts, length] is
    0 at the closing token, negative before it, positive behind it, where nothing is.
    """
    attention = block.self_attention
    heads, hidden = attention.num_heads, cells.shape[2]
    weight = attention.query_key_value.weight.view(heads, 3, -1, hidden)
    bias = attention.query_key_value.bias.view(heads, 3, -1)
    query = (torch.einsum("ne,hde->nhd", last, weight[:, 0]) + bias[:, 0]) * weight.shape[2] ** -0.5
    asked = torch.einsum("nhd,hde->nhe", query, weight[:, 1])
    scores = torch.bmm(asked, cells.transpose(1, 2))
    scores = scores + attention.slopes[None, :, None] * distance[:, None]
    scores = scores.masked_fill(distance[:, None] > 0, float("-inf"))
    heard = torch.bmm(scores.softmax(2), cells)
    return (torch.einsum("nhe,hde->nhd", heard, weight[:, 2]) + bias[:, 2]).flatten(1)


def closing_hidden(model: Bloom, packed: Packed) -> Tensor:
    """Hidden states of the closing tokens, [texts, hidden]; the texts are sorted, longest first."""
    block = model.h[-1]
    assert isinstance(block, BloomBlock) and not block.residual_after_norm
    if len(model.h) == 1:
        distinct, place = torch.unique(packed.tokens, return_inverse=True)
        rows = model.word_embeddings_layernorm(model.word_embeddings(distinct))
        normed, residual = block.input_layernorm(rows), rows[place[packed.last]]
    else:
        attention = attention_over(packed, causal=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.word_embeddings_layernorm(model.word_embeddings(packed.tokens))
            for lower in list(model.h)[:-1]:
                hidden = lower(hidden, attention, last_only=False)
        hidden = hidden.float()
        normed, residual, place = block.input_layernorm(hidden), hidden[packed.last], torch.arange(len(packed.tokens))
    lengths = torch.tensor(packed.lengths)
    parts = []
    for first, stop in runs(packed.lengths):
        longest = packed.lengths[first]
        sizes = lengths[first:stop, None]
        column = torch.arange(longest)[None]
        cell = packed.cu_seqlens[first:stop, None] + torch.minimum(column, sizes - 1)
        cells = F.embedding(place[cell], normed)
        last = normed[place[packed.last[first:stop]]]
        parts.append(pooled(block, cells, last, column - (sizes - 1)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = block.self_attention.dense(torch.cat(parts)) + residual
        wide = F.gelu(block.mlp.dense_h_to_4h(block.post_attention_layernorm(hidden)), approximate="tanh")
        hidden = hidden + block.mlp.dense_4h_to_h(wide)
    return model.ln_f(hidden.float())
