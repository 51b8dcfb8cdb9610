"""Llama-shaped decoders, packed: Llama, Mistral, Qwen2 and Qwen3 share one layer.

Weights, rotary embedding and configuration are transformers' own modules, or those of `decoder_modules`; this is their
forward pass without padding and cache, with small operations fused, and with the last layer run for closing tokens
alone where the caller wants no more. `backbone.choose` compares it with transformers when a model is first loaded.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from udever.model import products
from udever.model.attention import Attention, ScoreRule
from udever.model.blocks import alone, by_blocks
from udever.model.lengths import reset_rotary
from udever.model.norms import RmsNorm

Rotary = tuple[Tensor, Tensor]
LayerPass = Callable[..., Tensor]

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""`model_type` of the configurations this forward pass is right for."""


class LlamaShaped(nn.Module):
    """A transformers decoder of one of `FAMILIES`, run packed. Attention dropout (0 in all of them) is left out.

    `layer_pass` runs one layer, `norm_of` reads a norm: `gemma.GemmaShaped` puts its own in their place.
    """

    layer_pass: ClassVar[LayerPass]
    norm_of: ClassVar[Callable[[Any], RmsNorm]]

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.checkpointing = False
        self._hooked = False

    def sharded_layers(self) -> list[nn.Module]:
        """transformers' layers, made to run our forward pass when they are called: sharding works by such calls."""
        for layer in self.model.layers:
            layer.forward = partial(type(self).layer_pass, layer)
        self._hooked = True
        return list(self.model.layers)

    def forward(self, attention: Attention, *, last_only: bool = False) -> Tensor:
        """Hidden states after the final norm: [total, hidden], or [texts, hidden] of the closing tokens."""
        packed = attention.packed
        hidden = products.look_up(self.model.embed_tokens, packed.tokens)
        reset_rotary(self.model)
        rotaries = self.rotaries(hidden, packed.positions)
        for index, layer in enumerate(self.model.layers):
            last = last_only and index == len(self.model.layers) - 1
            run = layer if self._hooked else partial(type(self).layer_pass, layer)
            rotary = rotaries[index]
            if self.checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(run, hidden, rotary, attention, last=last, use_reentrant=False)
            else:
                hidden = run(hidden, rotary, attention, last=last)
        return type(self).norm_of(self.model.norm)(hidden)

    def rotaries(self, hidden: Tensor, positions: Tensor) -> list[Rotary]:
        """Cosines and sines for each layer, each [total, 1, dim / 2]."""
        turn = partial(self.model.rotary_emb, precision(hidden))
        return [halves(turn, positions)] * len(self.model.layers)


def precision(hidden: Tensor) -> Tensor:
    """What tells transformers in which precision cosines and sines are wanted: they are not rounded where `alone`."""
    return hidden[None, :1].float() if alone() and hidden.dtype == torch.bfloat16 else hidden[None]


def halves(turn: Callable[[Tensor], tuple[Tensor, Tensor]], positions: Tensor) -> Rotary:
    """The half of transformers' cosines and sines that its other half repeats: [total, 1, dim / 2].

    `turn` gives them for [1, total]. It is asked for each position once where many texts have it and nobody follows.
    """
    asked, of_tokens = positions, None
    if positions.device.type == "cpu" and alone():
        count = int(positions.max()) + 1
        if 2 * count <= len(positions):
            asked, of_tokens = torch.arange(count), positions
    cos, sin = (x[0, :, None, : x.shape[-1] // 2] for x in turn(asked[None]))
    return (cos, sin) if of_tokens is None else (cos.index_select(0, of_tokens), sin.index_select(0, of_tokens))


def _layer(layer: Any, hidden: Tensor, rotary: Rotary, attention: Attention, *, last: bool) -> Tensor:
    return _mlp(layer, _attend(layer, hidden, rotary, attention, last=last))


def _norm(module: Any) -> RmsNorm:
    return RmsNorm(module.weight, module.variance_epsilon)


def rotate(x: Tensor, rotary: Rotary, norm: RmsNorm | None = None) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864) of x [rows, heads, dim], behind `norm` where there is one.

    Halves are paired as transformers does.
    """
    cos, sin = rotary
    if not alone():
        first, second = (x if norm is None else norm(x)).chunk(2, dim=-1)
        return torch.cat(
            (torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)), dim=-1
        )

    def turn(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = (rows if norm is None else norm.of_rows(rows)).chunk(2, dim=-1)
        turned = torch.addcmul(first * cos, second, sin, value=-1)
        second.mul_(cos).addcmul_(first, sin)
        first.copy_(turned)
        return rows

    return by_blocks(turn, x, cos, sin)


def _attend(layer: Any, hidden: Tensor, rotary: Rotary, attention: Attention, *, last: bool) -> Tensor:
    module = layer.self_attn
    norm = _norm(layer.input_layernorm)
    scores = ScoreRule(scale=module.scaling, window=_window(module))
    mixed = mix(module, hidden, rotary, attention, scores, norm=norm, last=last)
    return products.linear_add(module.o_proj, mixed, hidden[attention.packed.last] if last else hidden)


def mix(
    module: Any,
    hidden: Tensor,
    rotary: Rotary,
    attention: Attention,
    scores: ScoreRule,
    *,
    norm: RmsNorm,
    last: bool,
) -> Tensor:
    """Queries, keys and values of hidden's `norm`, attended: [total, heads * dim], of closing tokens where `last`."""
    normed = products.shared(hidden, module.q_proj, module.k_proj, module.v_proj, norm=norm)
    key = products.linear(module.k_proj, normed).unflatten(1, (-1, module.head_dim))
    value = products.linear(module.v_proj, normed).unflatten(1, (-1, module.head_dim))
    query_rotary = rotary
    if last:
        closing = attention.packed.last
        normed = normed[closing]
        query_rotary = (rotary[0][closing], rotary[1][closing])
    query = products.linear(module.q_proj, normed).unflatten(1, (-1, module.head_dim))
    own: tuple[RmsNorm | None, RmsNorm | None] = (None, None)
    if hasattr(module, "q_norm"):  # Qwen3, Gemma 3: of the same kind as the layer's
        own = replace(norm, weight=module.q_norm.weight), replace(norm, weight=module.k_norm.weight)
    query = rotate(query, query_rotary, own[0]).to(value.dtype)
    key = rotate(key, rotary, own[1]).to(value.dtype)
    attend = attention.last if last else attention.full
    return attend(query, key, value, scores).flatten(1)


def _window(module: Any) -> int | None:
    """The layer's sliding window: on the module for Qwen2 and Qwen3, in the configuration for Mistral."""
    if hasattr(module, "sliding_window"):
        return module.sliding_window
    return module.config.sliding_window if module.config.model_type == "mistral" else None


def _mlp(layer: Any, hidden: Tensor) -> Tensor:
    norm, mlp = _norm(layer.post_attention_layernorm), layer.mlp
    return products.feed_forward(hidden, "silu", mlp.gate_proj, mlp.down_proj, mlp.up_proj, norm, hidden)


LlamaShaped.layer_pass = staticmethod(_layer)
LlamaShaped.norm_of = staticmethod(_norm)
