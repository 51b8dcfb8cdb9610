"""The loss against a teacher's vectors, beside the same written plainly over whole matrices."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.training import likeness
from udever.training.likeness import Lesson, likeness_loss
from udever.training.objectives import LossSettings


def plain(vectors, lesson, options):
    """Row by row, as the words say it."""
    targets = F.normalize(lesson.targets.double(), dim=1)
    whole = F.normalize(vectors, dim=1)
    loss = 0.0
    for row in range(len(vectors)):
        if lesson.closeness:
            loss += lesson.closeness * (1 - whole[row] @ targets[row])
        others = [other for other in range(len(vectors)) if other != row]
        if lesson.neighbours and others:
            wanted = (targets[others] @ targets[row] / options.teacher_temperature).softmax(0)
            weights = dict(zip(options.matryoshka, options.matryoshka_weights, strict=True))
            weights.setdefault(vectors.shape[1], 1.0)
            for size, weight in weights.items():
                cut = F.normalize(vectors[:, :size], dim=1)
                found = (cut[others] @ cut[row] / options.temperature).log_softmax(0)
                share = lesson.neighbours * weight / sum(weights.values())
                loss += share * (wanted * (wanted.log() - found)).sum()
    return loss / len(vectors)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 2.0]), st.booleans(), st.integers(1, 4))
def test_loss_and_gradient_are_those_of_the_plain_words(texts, closeness, neighbours, matryoshka, chunk):
    torch.manual_seed(texts)
    vectors = torch.randn(texts, 6, dtype=torch.float64, requires_grad=True)
    lesson = Lesson(torch.randn(texts, 6), closeness, neighbours)
    extra = {"matryoshka": [4, 3], "matryoshka_weights": [2.0, 0.5]} if matryoshka else {}
    options = LossSettings(temperature=0.3, teacher_temperature=0.2, **extra)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "_CHUNK_ROWS", chunk)
        ours = likeness_loss(vectors, lesson, options)
    theirs = torch.as_tensor(plain(vectors, lesson, options), dtype=torch.float64)
    torch.testing.assert_close(ours, theirs)
    if theirs.requires_grad:
        both = [torch.autograd.grad(loss, vectors)[0] for loss in (ours, theirs)]
        torch.testing.assert_close(*both)


def test_shares_of_several_processes_add_up():
    torch.manual_seed(0)
    vectors, lesson = torch.randn(7, 4), Lesson(torch.randn(7, 9), 0.0, 1.0)
    whole = likeness_loss(vectors, lesson, LossSettings())
    parts = [likeness_loss(vectors, lesson, LossSettings(), torch.arange(rank, 7, 3)) for rank in range(3)]
    torch.testing.assert_close(sum(parts), whole)


def test_the_teachers_own_vectors_cost_nothing():
    targets = torch.randn(5, 4)
    loss = likeness_loss(3 * targets, Lesson(targets, 1.0, 1.0), LossSettings(teacher_temperature=0.05))
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-5, rtol=0)
