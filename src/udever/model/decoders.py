"""Every other transformers model: packed through its attention interface, or right-padded where that is wrong."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from udever.model.attention import Attention, ScoreRule
from udever.model.lengths import reset_rotary

_NAME = "udever_packed"


class CannotPack(Exception):
    """A model asks its attention for something the packed kernels do not do; it is run padded instead."""


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface. query [1, heads, total, dim]; returns [1, total, heads, dim]."""
    attention: Attention | None = kwargs.get("udever_attention")
    refused = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if attention is None or attention_mask is not None or refused:
        raise CannotPack(f"{type(module).__name__}: {', '.join(refused) or 'no packed attention was passed'}")
    scores = ScoreRule(scale=query.shape[-1] ** -0.5 if scaling is None else scaling, window=sliding_window)
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    return attention.full(query, key, value, scores)[None], None


@cache
def _register() -> None:
    from transformers import AttentionInterface  # half of the seconds that loading takes; BLOOM needs none of it

    AttentionInterface.register(_NAME, _packed_attention)


class PackedDecoder(nn.Module):
    """A transformers decoder whose attention function is ours; positions restart with each text."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        _register()
        self.model = model
        self.config = model.config

    def forward(self, attention: Attention, *, last_only: bool = False) -> Tensor:
        """Hidden states after the final norm: [total, hidden], or [texts, hidden] of the closing tokens."""
        packed = attention.packed
        self.model.config._attn_implementation = _NAME
        reset_rotary(self.model)
        output = self.model(
            input_ids=packed.tokens[None],
            position_ids=packed.positions[None],
            use_cache=False,
            udever_attention=attention,
        )
        hidden = output.last_hidden_state[0]
        return hidden[packed.last] if last_only else hidden


class PaddedModel(nn.Module):
    """A transformers model run on a right-padded rectangle, for families whose packing is silently wrong.

    The padding lives and dies in `forward`: packed tokens go in, packed hidden states come out. Attention
    is the model's own.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.own_attention: str = model.config._attn_implementation

    def forward(self, attention: Attention, *, last_only: bool = False) -> Tensor:
        """Hidden states as the model gives them: [total, hidden], or [texts, hidden] of the closing tokens."""
        packed = attention.packed
        self.model.config._attn_implementation = self.own_attention
        reset_rotary(self.model)
        cells = (packed.text_of_token, packed.positions)
        shape = (len(packed.lengths), max(packed.lengths))
        tokens = torch.zeros(shape, dtype=torch.int64, device=packed.tokens.device)
        mask = torch.zeros_like(tokens)
        tokens[cells] = packed.tokens
        mask[cells] = 1
        extra = {"use_cache": False} if hasattr(self.config, "use_cache") else {}
        hidden = self.model(input_ids=tokens, attention_mask=mask, **extra).last_hidden_state[cells]
        return hidden[packed.last] if last_only else hidden
