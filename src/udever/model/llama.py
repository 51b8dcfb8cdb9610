"""Llama-shaped decoders, packed: Llama, Mistral, Qwen2 and Qwen3 share one layer.

Weights, rotary embedding and configuration are transformers' own modules; this is their forward pass
without padding and cache, with small operations fused, and with the last layer run for closing tokens
alone where the caller wants no more. `backbone.self_test` compares it with transformers at load time.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from udever.model import products
from udever.model.attention import Attention, Scores

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""`model_type` of the configurations this forward pass is right for."""


class LlamaShaped(nn.Module):
    """A transformers decoder of one of `FAMILIES`, run packed. Attention dropout (0 in all of them) is left out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.checkpointing = False
        self._hooked = False

    def sharded_layers(self) -> list[nn.Module]:
        """transformers' layers, made to run our forward pass when they are called: sharding works by such calls."""
        for layer in self.model.layers:
            layer.forward = partial(_layer, layer)
        self._hooked = True
        return list(self.model.layers)

    def forward(self, attention: Attention, *, last_only: bool = False) -> Tensor:
        """Hidden states after the final norm: [total, hidden], or [texts, hidden] of the closing tokens."""
        packed = attention.packed
        hidden = self.model.embed_tokens(packed.tokens)
        cos, sin = self.model.rotary_emb(hidden[None], packed.positions[None])
        half = cos.shape[-1] // 2
        rotary = (cos[0, :, None, :half], sin[0, :, None, :half])  # each [total, 1, dim / 2]
        for index, layer in enumerate(self.model.layers):
            last = last_only and index == len(self.model.layers) - 1
            run = layer if self._hooked else partial(_layer, layer)
            if self.checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(run, hidden, rotary, attention, last=last, use_reentrant=False)
            else:
                hidden = run(hidden, rotary, attention, last=last)
        return _norm(self.model.norm, hidden)


def _layer(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], attention: Attention, *, last: bool) -> Tensor:
    return _mlp(layer, _attend(layer, hidden, rotary, attention, last=last))


def _norm(module: Any, hidden: Tensor) -> Tensor:
    return products.rms_norm(hidden, module.weight, module.variance_epsilon)


def _rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864), halves paired as transformers does. x [rows, heads, dim]."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return torch.cat(
        (torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)), dim=-1
    )


def _attend(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], attention: Attention, *, last: bool) -> Tensor:
    module = layer.self_attn
    normed = _norm(layer.input_layernorm, hidden)
    key = products.linear(module.k_proj, normed).unflatten(1, (-1, module.head_dim))
    value = products.linear(module.v_proj, normed).unflatten(1, (-1, module.head_dim))
    query_rotary = rotary
    if last:
        closing = attention.packed.last
        hidden, normed = hidden[closing], normed[closing]
        query_rotary = (rotary[0][closing], rotary[1][closing])
    query = products.linear(module.q_proj, normed).unflatten(1, (-1, module.head_dim))
    if hasattr(module, "q_norm"):  # Qwen3
        query, key = _norm(module.q_norm, query), _norm(module.k_norm, key)
    query, key = _rotate(query, query_rotary), _rotate(key, rotary)
    scores = Scores(scale=module.scaling, window=_window(module))
    attend = attention.last if last else attention.full
    mixed = attend(query, key, value, scores).flatten(1)
    return products.linear_add(module.o_proj, mixed, hidden)


def _window(module: Any) -> int | None:
    """The layer's sliding window: on the module for Qwen2 and Qwen3, in the configuration for Mistral."""
    if hasattr(module, "sliding_window"):
        return module.sliding_window
    return module.config.sliding_window if module.config.model_type == "mistral" else None


def _mlp(layer: Any, hidden: Tensor) -> Tensor:
    normed = _norm(layer.post_attention_layernorm, hidden)
    gate = products.linear(layer.mlp.gate_proj, normed, "silu")
    wide = products.linear_mul(layer.mlp.up_proj, normed, gate)
    return products.linear_add(layer.mlp.down_proj, wide, hidden)
