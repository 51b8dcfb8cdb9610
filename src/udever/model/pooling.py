"""From the hidden states of a packed batch to one vector per text."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from udever.model.packing import Packed

Pooling = Literal["last", "mean", "weighted_mean"]


def pool(
    hidden: Float[Tensor, "total dim"],
    packed: Packed,
    pooling: Pooling,
    skip: Int[Tensor, "texts"] | None = None,
) -> Float[Tensor, "texts dim"]:
    """Reduce each text's hidden states to one vector.

    "last" takes the closing token. "mean" averages; "weighted_mean" weights token i by i + 1 (SGPT,
    arXiv 2202.08904). `skip` leaves each text's first tokens out of the two means (a prompt that is not
    to be pooled); a text that would keep none keeps its closing token. Sums are taken in float32.
    """
    if pooling == "last":
        return hidden[packed.last]
    positions = packed.positions
    weights = torch.ones_like(positions) if pooling == "mean" else positions + 1
    if skip is not None:
        lengths = torch.tensor(packed.lengths, device=hidden.device)
        weights = weights * (positions >= torch.minimum(skip, lengths - 1)[packed.text_of_token])
    weights = weights.to(torch.promote_types(hidden.dtype, torch.float32))
    total = torch.zeros(len(packed.lengths), hidden.shape[1], dtype=weights.dtype, device=hidden.device)
    total = total.index_add(0, packed.text_of_token, hidden * weights[:, None])
    norm = torch.zeros_like(total[:, 0]).index_add(0, packed.text_of_token, weights)
    return total / norm[:, None]


def unit(vectors: Float[Tensor, "texts dim"], dimensions: int | None = None) -> Float[Tensor, "texts size"]:
    """Cut to the first `dimensions` (Matryoshka, arXiv 2205.13147), then scale to length 1."""
    return F.normalize(vectors[:, :dimensions], dim=-1)


def unusable(vectors: Float[Tensor, "texts dim"]) -> list[int]:
    """Rows that are not finite or have no length: no direction can be taken from them."""
    norms = torch.linalg.vector_norm(vectors, dim=1)
    return (~torch.isfinite(norms) | (norms == 0)).nonzero().flatten().tolist()
