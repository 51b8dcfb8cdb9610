"""BERT-shaped encoders, packed: BERT, RoBERTa, XLM-RoBERTa and CamemBERT share one layer.

Weights and configuration are transformers' own modules; this is their forward pass without padding, with small
operations fused. `backbone.choose` compares it with transformers at load time.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from udever.model import products
from udever.model.attention import Attention, ScoreRule
from udever.model.kept import Curve

_ACTIVATIONS: dict[str, Curve] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}

FAMILIES = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})
"""`model_type` of the configurations this forward pass is right for."""


def fits(config: Any) -> bool:
    """Whether a model of this configuration may be run by `BertShaped`."""
    return (
        config.model_type in FAMILIES
        and config.hidden_act in _ACTIVATIONS
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", "absolute") in ("absolute", None)
    )


class BertShaped(nn.Module):
    """A transformers encoder of one of `FAMILIES`, run packed. Dropout is left out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def forward(self, attention: Attention, *, last_only: bool = False) -> Tensor:
        """Hidden states after the last layer: [total, hidden], or [texts, hidden] of the closing tokens."""
        packed = attention.packed
        embeddings = self.model.embeddings
        # RoBERTa and its kin count positions from behind the padding token's id
        first = 0 if self.config.model_type == "bert" else embeddings.padding_idx + 1
        hidden = embeddings.word_embeddings(packed.tokens) + embeddings.token_type_embeddings.weight[0]
        hidden = _norm(embeddings.LayerNorm, hidden + embeddings.position_embeddings(packed.positions + first))
        activation = _ACTIVATIONS[self.config.hidden_act]
        for layer in self.model.encoder.layer:
            hidden = _mlp(layer, _attend(layer.attention, hidden, attention), activation)
        return hidden[packed.last] if last_only else hidden


def _norm(module: Any, hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, module.normalized_shape, module.weight, module.bias, module.eps)


def _attend(block: Any, hidden: Tensor, attention: Attention) -> Tensor:
    module = block.self
    rows = products.shared(hidden, module.query, module.key, module.value)
    query, key, value = (
        products.linear(part, rows).unflatten(1, (-1, module.attention_head_size))
        for part in (module.query, module.key, module.value)
    )
    mixed = attention.full(query, key, value, ScoreRule(scale=module.attention_head_size**-0.5)).flatten(1)
    return _norm(block.output.LayerNorm, products.linear_add(block.output.dense, mixed, hidden))


def _mlp(layer: Any, hidden: Tensor, activation: Curve) -> Tensor:
    out = products.feed_forward(hidden, activation, layer.intermediate.dense, layer.output.dense, residual=hidden)
    return _norm(layer.output.LayerNorm, out)
