"""Many processes as one: who this is, and sums over all. One process alone is the case without communication."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from udever.errors import ModelError


@dataclass(frozen=True)
class World:
    """This process among the `size` that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls, device: torch.device | str = "cpu") -> "World":
        """What torchrun set (RANK, WORLD_SIZE, LOCAL_RANK), with the processes joined; alone without it.

        Communication is nccl on CUDA and gloo elsewhere. Raises ModelError where the processes do not meet.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        from torch import distributed

        try:
            if not distributed.is_initialized():
                distributed.init_process_group("nccl" if torch.device(device).type == "cuda" else "gloo")
        except (ValueError, RuntimeError) as error:
            first = (str(error).strip().splitlines() or ["unknown"])[0]
            raise ModelError(f"the {size} processes do not meet: {first}; start them with torchrun") from error
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(local_rank)
        return cls(distributed.get_rank(), distributed.get_world_size(), local_rank)

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` summed over all processes, in place."""
        if self.size > 1:
            from torch import distributed

            distributed.all_reduce(tensor)
        return tensor

    def largest(self, value: float) -> float:
        """The largest `value` any process has."""
        if self.size == 1:
            return value
        from torch import distributed

        tensor = torch.tensor([value], dtype=torch.float64, device=self._device())
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return float(tensor)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter], bucket_bytes: int = 64 << 20) -> None:
        """Sum the gradients of all processes, in place, many at a time; a missing one counts as zero."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            if sum(g.numel() * g.element_size() for g in bucket) >= bucket_bytes:
                self._sum_flat(bucket)
                bucket = []
        self._sum_flat(bucket)

    def _sum_flat(self, tensors: list[Tensor]) -> None:
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            same = [t for t in tensors if t.dtype == dtype]
            if len(same) == 1:
                self.sum(same[0])
                continue
            flat = self.sum(torch.cat([t.flatten() for t in same]))
            for tensor, part in zip(same, flat.split([t.numel() for t in same]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            from torch import distributed

            distributed.barrier()

    def _device(self) -> str:
        from torch import distributed

        return "cuda" if distributed.get_backend() == "nccl" else "cpu"
