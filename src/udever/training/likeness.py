"""Likeness to a teacher: a pure function of a batch's vectors and of those a teacher has of the same texts.

`closeness` draws each vector to the teacher's own, which must be of its size. `neighbours` asks of each text that its
similarities to the other texts of the batch be shared out as the teacher's are, whatever the sizes. The matrix of all
similarities of a large batch is never held as a whole: rows go through in chunks that the backward pass computes again.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from udever.training.objectives import LossSettings

_CHUNK_ROWS = 1024
_OWN = -1e9  # less than any score, and finite: infinity times a share of nothing is not a number


@dataclass(frozen=True)
class Lesson:
    """The teacher's vectors of a batch's texts [texts, its dimensions], and the weight of each part of the loss."""

    targets: Float[Tensor, "texts teacher_dim"]
    closeness: float
    neighbours: float


def likeness_loss(
    vectors: Float[Tensor, "texts dim"],
    lesson: Lesson,
    settings: LossSettings,
    rows: Int[Tensor, "rows"] | None = None,
) -> Float[Tensor, ""]:
    """The sum of the losses of `rows` (all where None) over the number of texts of the whole batch.

    Closeness is 1 - cosine, over all dimensions. For neighbours it is the divergence of the softmax of the similarities
    (over `settings.temperature`) from the teacher's (over `teacher_temperature`), a text's own left out; with
    `settings.matryoshka` its mean over those first dimensions and all, as weighted there. 0 is agreement in both.
    """
    rows = torch.arange(len(vectors), device=vectors.device) if rows is None else rows
    targets = F.normalize(lesson.targets.to(vectors), dim=1)
    total = vectors.new_zeros(())
    if lesson.closeness:
        own = F.normalize(vectors[rows], dim=1)
        total = total + lesson.closeness * (1 - (own * targets[rows]).sum(1)).sum()
    if lesson.neighbours:
        for size, share in settings.sizes(vectors.shape[1]):
            found = _divergence(F.normalize(vectors[:, :size], dim=1), targets, settings, rows)
            total = total + lesson.neighbours * share * found
    return total / len(vectors)


def _divergence(student: Tensor, teacher: Tensor, settings: LossSettings, rows: Tensor) -> Tensor:
    if len(rows) <= _CHUNK_ROWS:
        return _chunk_divergence(student, teacher, settings, rows)
    total = student.new_zeros(())
    for chunk in rows.split(_CHUNK_ROWS):
        total = total + checkpoint(_chunk_divergence, student, teacher, settings, chunk, use_reentrant=False)
    return total


def _chunk_divergence(student: Tensor, teacher: Tensor, settings: LossSettings, rows: Tensor) -> Tensor:
    shares = [
        (vectors[rows] @ vectors.T / temperature).scatter(1, rows[:, None], _OWN).log_softmax(1)
        for vectors, temperature in ((student, settings.temperature), (teacher, settings.teacher_temperature))
    ]
    return (shares[1].exp() * (shares[1] - shares[0])).sum()
