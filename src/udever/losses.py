"""Contrastive losses: pure functions of vectors and ids."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def known_positives(
    anchor_ids: Int[Tensor, "pairs"],
    candidate_ids: Int[Tensor, "candidates"],
    group_ids: Int[Tensor, "pairs"] | None = None,
) -> Bool[Tensor, "pairs candidates"]:
    """Which candidates are no negatives of an anchor, though they are not its own positive.

    Candidate i is pair i's positive for i < pairs; hard negatives follow. Ids say which texts are equal:
    an anchor and a candidate with one id are one text. True where a candidate is the same text as the
    anchor, as the anchor's positive, or as a positive of an equal anchor, or belongs to a pair of the
    anchor's group (an id below 0 is no group). A pair's own positive is False: it is the target.
    """
    pairs = len(anchor_ids)
    positives = candidate_ids[:pairs]
    same_meaning = anchor_ids[:, None] == anchor_ids[None, :]
    if group_ids is not None:
        same_meaning = same_meaning | ((group_ids[:, None] == group_ids[None, :]) & (group_ids[:, None] >= 0))
    same_text = (positives[:, None] == candidate_ids[None, :]).float()
    known = (same_meaning.float() @ same_text > 0) | (anchor_ids[:, None] == candidate_ids[None, :])
    own = torch.arange(pairs, device=known.device)
    known[own, own] = False
    return known


def info_nce(
    queries: Float[Tensor, "pairs dim"],
    candidates: Float[Tensor, "candidates dim"],
    *,
    temperature: float,
    known: Bool[Tensor, "pairs candidates"] | None = None,
) -> Float[Tensor, ""]:
    """InfoNCE (arXiv 1807.03748): the mean cross-entropy of each query's own candidate among all.

    Rows are unit vectors; candidate i belongs to query i, the rest are negatives except where `known`.
    """
    logits = queries @ candidates.T / temperature
    if known is not None:
        logits = logits.masked_fill(known, float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(queries), device=queries.device))


def pair_loss(
    anchors: Float[Tensor, "pairs dim"],
    positives: Float[Tensor, "pairs dim"],
    negatives: Float[Tensor, "negatives dim"],
    *,
    temperature: float,
    known: Bool[Tensor, "pairs candidates"],
    both_ways: bool,
) -> Float[Tensor, ""]:
    """InfoNCE from anchor to positive over in-batch and hard negatives.

    `both_ways` (symmetric pairs) takes the mean with the loss from positive to anchor over the in-batch
    anchors. All rows are unit vectors; `known` is that of `known_positives` over positives then negatives.
    """
    forward = info_nce(anchors, torch.cat((positives, negatives)), temperature=temperature, known=known)
    if not both_ways:
        return forward
    pairs = len(anchors)
    backward = info_nce(positives, anchors, temperature=temperature, known=known[:, :pairs].T)
    return (forward + backward) / 2
