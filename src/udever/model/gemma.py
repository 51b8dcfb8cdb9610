"""Gemma 3's text decoder, packed: Llama's pass with four norms a layer, norms on queries and keys, two rotary bases
(one for layers that see a window, one for those that see everything) and a gate of GELU.

Weights, rotary embedding and configuration are transformers' own modules, or those of `decoder_modules`.
`backbone.choose` compares the result with transformers when a model is first loaded.
"""

from functools import partial
from typing import Any

from torch import Tensor

from udever.model import products
from udever.model.attention import Attention, ScoreRule
from udever.model.llama import LlamaShaped, Rotary, halves, mix, precision
from udever.model.norms import RmsNorm

FAMILIES = frozenset({"gemma3_text"})
"""`model_type` of the configurations this forward pass is right for."""


def fits(config: Any) -> bool:
    """Whether a model of this configuration may be run by `GemmaShaped`."""
    return (
        config.model_type in FAMILIES
        and config.hidden_activation == "gelu_pytorch_tanh"
        and config.attn_logit_softcapping is None
    )


def _norm(module: Any) -> RmsNorm:
    return RmsNorm(module.weight, module.eps, around_one=True)


def _layer(layer: Any, hidden: Tensor, rotary: Rotary, attention: Attention, *, last: bool) -> Tensor:
    module = layer.self_attn
    norm = _norm(layer.input_layernorm)
    scores = ScoreRule(scale=module.scaling, window=module.sliding_window)
    mixed = mix(module, hidden, rotary, attention, scores, norm=norm, last=last)
    if last:
        hidden = hidden[attention.packed.last]
    hidden = _norm(layer.post_attention_layernorm).plus(products.linear(module.o_proj, mixed), hidden)
    norm, mlp = _norm(layer.pre_feedforward_layernorm), layer.mlp
    out = products.feed_forward(hidden, "gelu_tanh", mlp.gate_proj, mlp.down_proj, mlp.up_proj, norm)
    return _norm(layer.post_feedforward_layernorm).plus(out, hidden)


class GemmaShaped(LlamaShaped):
    """A transformers decoder of one of `FAMILIES`, run packed."""

    layer_pass = staticmethod(_layer)
    norm_of = staticmethod(_norm)

    def rotaries(self, hidden: Tensor, positions: Tensor) -> list[Rotary]:
        """Cosines and sines by kind of layer."""
        kinds = self.config.layer_types
        turn = partial(self.model.rotary_emb, precision(hidden))
        by_kind = {kind: halves(partial(turn, layer_type=kind), positions) for kind in dict.fromkeys(kinds)}
        return [by_kind[kind] for kind in kinds]
