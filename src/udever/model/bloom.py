"""BLOOM, packed.

Reads the weights and the configuration of transformers' BLOOM under the same parameter names and computes
the same function, without padding, with ALiBi in float32 relative to each text, and, where the caller
wants only closing tokens, with the last layer's queries, output projection and MLP run for those alone; while it
learns, without the last layer's keys and values too.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from udever.model import products
from udever.model.attention import Attention, ScoreRule


def alibi_slopes(num_heads: int) -> Float[Tensor, "heads"]:
    """ALiBi's slopes (arXiv 2108.12409), in float32.

    For a power of two the geometric sequence from 2^(-8/n); otherwise that of the power below, filled up
    with every other slope of the power above.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(num_heads - power)]
    return torch.tensor(slopes)


class BloomAttention(nn.Module):
    """Queries, keys and values from one projection; attention; output projection."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        hidden_size = config.hidden_size
        self.num_heads = config.n_head
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.slopes: Tensor
        self.register_buffer("slopes", alibi_slopes(config.n_head), persistent=False)

    def forward(self, hidden: Tensor, residual: Tensor, attention: Attention, *, last_only: bool) -> Tensor:
        """Attention's output plus `residual`: [total, hidden], or [texts, hidden] where `last_only`."""
        if last_only and self.training and self._weights_are_plain(hidden):
            return products.linear_add(self.dense, self._asked_of_inputs(hidden, attention), residual)
        qkv = products.linear(self.query_key_value, hidden).unflatten(1, (self.num_heads, 3, -1))
        query, key, value = qkv.unbind(2)  # each [total, heads, dim]
        scores = ScoreRule(scale=query.shape[-1] ** -0.5, slopes=self.slopes)
        if last_only:
            mixed = attention.last(query[attention.packed.last], key, value, scores)
        else:
            mixed = attention.full(query, key, value, scores)
        return products.linear_add(self.dense, mixed.flatten(1), residual)

    def _weights_are_plain(self, hidden: Tensor) -> bool:
        """Whether the one projection can be taken apart: no adapter around it, and no fused kernel to miss."""
        return isinstance(self.query_key_value, products.FusedLinear) and hidden.device.type == "cpu"

    def _asked_of_inputs(self, hidden: Tensor, attention: Attention) -> Tensor:
        """What the closing tokens hear, [texts, hidden], with no product for any other token.

        q.(K x) is (K'q).x, and the weighted sum of V x is V times that of x: keys and values are the inputs themselves,
        shared by all heads. A bias of keys moves all scores of a text alike, and so none of its weights.
        """
        size = hidden.shape[1]
        weight = self.query_key_value.weight.view(self.num_heads, 3, -1, size)
        bias = self.query_key_value.bias.view(self.num_heads, 3, -1)
        query = torch.einsum("te,hde->thd", hidden[attention.packed.last], weight[:, 0]) + bias[:, 0]
        asked = torch.einsum("thd,hde->the", query, weight[:, 1])
        scores = ScoreRule(scale=query.shape[-1] ** -0.5, slopes=self.slopes)
        heard = attention.last(asked, hidden[:, None], hidden[:, None], scores)
        return (torch.einsum("the,hde->thd", heard, weight[:, 2]) + bias[:, 2]).flatten(1)


class BloomMLP(nn.Module):
    """Two projections around GELU (its tanh form)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 4 * config.hidden_size)
        self.dense_4h_to_h = nn.Linear(4 * config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """The MLP's output plus `residual`, both [rows, hidden]."""
        wide, narrow = self.dense_h_to_4h, self.dense_4h_to_h
        return products.feed_forward(hidden, "gelu_tanh", wide, narrow, residual=residual)


class BloomBlock(nn.Module):
    """One layer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.self_attention = BloomAttention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.mlp = BloomMLP(config)
        self.residual_after_norm = config.apply_residual_connection_post_layernorm

    def forward(self, hidden: Tensor, attention: Attention, *, last_only: bool) -> Tensor:
        """[total, hidden] -> [total, hidden], or [texts, hidden] where `last_only`."""
        normed = self.input_layernorm(hidden)
        residual = normed if self.residual_after_norm else hidden
        if last_only:
            residual = residual[attention.packed.last]
        hidden = self.self_attention(normed, residual, attention, last_only=last_only)
        normed = self.post_attention_layernorm(hidden)
        residual = normed if self.residual_after_norm else hidden
        return self.mlp(normed, residual)


def _table(rows: int, width: int) -> nn.Embedding:
    """Embeddings; not drawn under the meta device, where nobody reads them: that would import torch's compiler."""
    weight = torch.empty(rows, width)
    return nn.Embedding(rows, width, _weight=weight) if weight.is_meta else nn.Embedding(rows, width)


class Bloom(nn.Module):
    """The decoder without its language-model head. Dropout, which the published models set to 0, is left out."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = _table(config.vocab_size, config.hidden_size)
        self.word_embeddings_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.h = nn.ModuleList(BloomBlock(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.checkpointing = False
        products.use_fused_products(self)

    def sharded_layers(self) -> list[nn.Module]:
        """The modules that hold most of the weights and are called one by one."""
        return list(self.h)

    def reset_slopes(self) -> None:
        """Compute ALiBi's slopes anew, on the device of the weights."""
        for module in self.modules():
            if isinstance(module, BloomAttention):
                module.slopes = alibi_slopes(module.num_heads).to(self.ln_f.weight.device)

    def forward(self, attention: Attention, *, last_only: bool = False) -> Tensor:
        """Hidden states after the final layer norm: [total, hidden], or [texts, hidden] of the closing tokens."""
        hidden = self.word_embeddings_layernorm(products.look_up(self.word_embeddings, attention.packed.tokens))
        for index, block in enumerate(self.h):
            last = last_only and index == len(self.h) - 1
            if self.checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(block, hidden, attention, last_only=last, use_reentrant=False)
            else:
                hidden = block(hidden, attention, last_only=last)
        return self.ln_f(hidden)


def init_weights(model: Bloom, seed: int) -> None:
    """Draw fresh weights as BLOOM's configuration says: normal with `initializer_range`, biases 0, norms 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(0.0, model.config.initializer_range, generator=generator)
        if isinstance(module, nn.Linear):
            module.bias.data.zero_()


def let_content_through(model: Bloom, seed: int) -> None:
    """Make values and output projection of every layer a random rotation and its inverse.

    Attention then starts as an average of what the tokens say, at full size. With BLOOM's own small
    weights next to nothing of it reaches the closing token, and the same training from there stands at a
    quarter of the MRR@10 (dev/LOG.md).
    """
    generator = torch.Generator().manual_seed(seed)
    size = model.config.hidden_size
    for attention in model.modules():
        if not isinstance(attention, BloomAttention):
            continue
        rotation = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
        by_head = attention.query_key_value.weight.data.view(attention.num_heads, 3, -1, size)
        by_head[:, 2] = rotation.view(attention.num_heads, -1, size)
        attention.dense.weight.data.copy_(rotation.T)
