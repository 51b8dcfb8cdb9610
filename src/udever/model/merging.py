"""Several models of one kind made into one: tensors between tensors, in float64."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from udever.errors import ModelError

Method = Literal["linear", "slerp"]
_NUMBERS = 1 << 22
"""As many are blended at a time: copies in float64 of a whole table of tokens took 5 GB."""
State = dict[str, Tensor]

_PARALLEL = 1e-7
"""Sine of an angle below which the arc between two tensors is a straight line in float64."""


def lerp(left: Tensor, right: Tensor, share: float) -> Tensor:
    """The point at `share` (0 to 1) of the straight line from `left` to `right`."""
    return (left.double() * (1 - share) + right.double() * share).to(left.dtype)


def slerp(left: Tensor, right: Tensor, share: float) -> Tensor:
    """The point at `share` (0 to 1) of the arc from `left` to `right`, each taken as one long vector.

    Of the tensors' angle to one another; lengths are blended on the way (Shoemake 1985). Where they point the same
    or opposite way, or one is zero, there is no arc to choose and the line is taken.
    """
    a, b = left.double(), right.double()
    lengths = a.norm() * b.norm()
    cosine = float((a * b).sum() / lengths) if lengths > 0 else 1.0
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < _PARALLEL:
        return lerp(left, right, share)
    parts = math.sin((1 - share) * angle) * a + math.sin(share * angle) * b
    return (parts / math.sin(angle)).to(left.dtype)


_METHODS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"linear": lerp, "slerp": slerp}


@torch.no_grad()
def blend(into: State, other: State, share: float, method: Method) -> None:
    """Move the tensors of `into`, in place, by `share` of the way to those of `other`.

    Raises ModelError, before anything moves, where names, shapes, or tensors of whole numbers differ.
    """
    check_alike(into, other)
    for name, tensor in into.items():
        if not tensor.is_floating_point():
            continue
        for own, theirs in zip(_parts(tensor, method), _parts(other[name], method), strict=True):
            own.copy_(_METHODS[method](own, theirs.to(own.device), share))


def _parts(tensor: Tensor, method: Method) -> Sequence[Tensor]:
    """What of a tensor is blended at a time: an arc asks for all of it, a line for a few rows."""
    if method == "slerp":
        return [tensor]
    rows = torch.atleast_1d(tensor)
    return rows.split(max(1, _NUMBERS * len(rows) // max(1, rows.numel())))


def check_alike(left: State, right: State) -> None:
    """Raise ModelError unless both have the same tensors by name, shape and, for whole numbers, content."""
    for name in sorted({*left, *right}):
        if name not in left or name not in right:
            raise ModelError(f"only one of the models has the tensor {name!r}; merge models of one architecture")
        a, b = left[name], right[name]
        if a.shape != b.shape:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise ModelError(f"the tensor {name!r} has the shapes {shapes}; merge models of one architecture")
        if not a.is_floating_point() and not torch.equal(a, b.to(a.device)):
            raise ModelError(f"the whole numbers in the tensor {name!r} differ; merge models of one architecture")
