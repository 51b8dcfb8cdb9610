"""Many processes as one: who this is, sums over all, and weights that one process cannot hold (FSDP2).

One process alone is the case without communication.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from udever.errors import ModelError, first_line
from udever.model.lengths import crosses

_BUCKET_BYTES = 64 << 20


def take_device() -> None:
    """Let "cuda" be this process's own device among those of the machine, before anything is put on one.

    Raises ModelError where torchrun started more processes than there are devices.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local == 0 or not torch.cuda.is_available():
        return
    if local >= torch.cuda.device_count():
        raise ModelError(
            f"process {local} of this machine has no CUDA device, of which there are {torch.cuda.device_count()}; "
            f"give --nproc-per-node {torch.cuda.device_count()}"
        )
    torch.cuda.set_device(local)


@dataclass(frozen=True)
class World:
    """This process among the `size` that train together."""

    rank: int = 0
    size: int = 1

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
            raise ModelError(
                f"the {size} processes cannot connect: {first_line(error)}; start them with torchrun"
            ) from error
        return cls(distributed.get_rank(), distributed.get_world_size())

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

        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        tensor = torch.tensor([value], dtype=torch.float64, device=device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return float(tensor)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients of all processes, in place, many at a time; a missing one counts as zero."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            if sum(g.numel() * g.element_size() for g in bucket) >= _BUCKET_BYTES:
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


def shard(backbone: Any, world: World, max_length: int) -> None:
    """Spread the weights over the processes of `world`, layer by layer, in place.

    Each process then holds its part of every tensor, of its gradient and of the optimiser's state; a layer is
    put together when it runs. Raises ModelError for one process, which has nobody to share with, and where texts
    of at most `max_length` tokens may need several passes: processes would then wait for one another for ever.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if world.size == 1:
        raise ModelError("training.sharding is 'full' and there is one process; start several with torchrun")
    if crosses(backbone.config, max_length):
        raise ModelError(
            f"training.sharding is 'full' and max_length is {max_length}, where the model's position rules divide "
            f"batches by length; shorten max_length to the rules' threshold, or train without sharding"
        )
    device = next(backbone.parameters()).device.type
    mesh = init_device_mesh(device, (world.size,))
    for layer in _layers(backbone):
        fully_shard(layer, mesh=mesh)
    fully_shard(backbone, mesh=mesh)


def _layers(backbone: Any) -> list[nn.Module]:
    """The modules that are called as such in a forward pass and hold most of the weights."""
    if hasattr(backbone, "sharded_layers"):
        return backbone.sharded_layers()
    inner = backbone.model.get_decoder() if hasattr(backbone.model, "get_decoder") else backbone.model
    layers = getattr(inner, "layers", None)
    if layers is None:
        layers = getattr(inner, "h", None)
    return list(layers) if layers is not None else []


@torch.no_grad()
def gather(backbone: Any) -> dict[str, Tensor]:
    """All weights, whole, on every process: name -> tensor. For saving a sharded model."""
    from torch.distributed.tensor import DTensor

    state = backbone.state_dict()
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in state.items()}
