"""Work on rows between matrix products, block by block.

On the CPU what stands between reading and writing then stays in a cache, in float32: an operation on bfloat16 turns to
float32 and back for itself, and a result that leaves the cache costs as much as several operations.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 1 << 18
"""Numbers of a block for each thread."""

Work = Callable[..., Tensor]
"""Given rows in float32 at least, which it may change, and those of other tensors; gives as many rows."""


def alone() -> bool:
    """Whether nobody follows the operations: no gradients, no graph. Tensors can be changed in place then."""
    return not torch.is_grad_enabled() and not torch.compiler.is_exporting()


def block_rows(x: Tensor) -> int:
    """How many of x's rows make a block: all of them where blocks gain nothing."""
    if x.device.type != "cpu":
        return max(1, len(x))
    return max(1, _BLOCK * torch.get_num_threads() // max(1, x.shape[1:].numel()))


def precise(dtype: torch.dtype) -> torch.dtype:
    """float32 at least; for one number a row, `torch.promote_types` costs more than the work."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def own_copy(x: Tensor) -> Tensor:
    """x in float32 at least, in memory of its own."""
    return x.to(precise(x.dtype), copy=True)


def by_blocks(work: Work, x: Tensor, *beside: Tensor) -> Tensor:
    """work(x, *beside) over blocks of rows, where `alone`; in the shape and precision of x [rows, ...]."""
    step = block_rows(x)
    if len(x) <= step:
        return work(own_copy(x), *beside).to(x.dtype)
    out = torch.empty_like(x)
    parts = (other.split(step) for other in beside)
    for place, rows, *others in zip(out.split(step), x.split(step), *parts, strict=True):
        place.copy_(work(own_copy(rows), *others))
    return out
