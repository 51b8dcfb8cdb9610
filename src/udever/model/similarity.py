"""Cosines of whatever holds vectors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from udever.errors import DataError
from udever.model.packing import unit


def cosines(a: Any, b: Any) -> np.ndarray | Tensor:
    """Cosine of every row of `a` with every row of `b`: a tensor where `a` is one, else an array.

    Raises DataError for what holds no vectors, and for vectors of different lengths.
    """
    left, right = (unit(torch.atleast_2d(_rows(given, name)).float()) for given, name in ((a, "a"), (b, "b")))
    if left.shape[1] != right.shape[1]:
        raise DataError(
            f"a has vectors of {left.shape[1]} dimensions and b of {right.shape[1]}; expected both from one "
            f"model, cut to the same length"
        )
    product = left @ right.to(left.device).T
    return product if isinstance(a, Tensor) else product.cpu().numpy()


def _rows(given: Any, name: str) -> Tensor:
    if isinstance(given, Tensor):
        vectors = given
    elif isinstance(given, str) or _holds_texts(given):
        raise DataError(f"{name} holds texts; encode them first: similarity(encode(a), encode(b))")
    else:
        vectors = _stacked(given, name)
    if vectors.ndim not in (1, 2):
        raise DataError(f"{name} has {vectors.ndim} axes; expected [rows, dimensions]")
    return vectors


def _holds_texts(given: Any) -> bool:
    return hasattr(given, "__len__") and len(given) > 0 and isinstance(next(iter(given)), str)


def _stacked(given: Any, name: str) -> Tensor:
    """Vectors of an array, of rows in a list, or of a column whose entries are vectors."""
    try:
        array = np.asarray(given)
        if array.dtype == object:
            array = np.stack([np.asarray(row, np.float32) for row in array])
        return torch.as_tensor(np.ascontiguousarray(array, np.float32))
    except (TypeError, ValueError) as error:
        kind = type(given).__name__
        raise DataError(f"{name} is {kind} and holds no vectors of one length; expected [rows, dimensions]") from error
