"""Weights that one process cannot hold: FSDP2 over the layers of a backbone, and checkpointed layers."""

from typing import Any

import torch
from torch import nn

from udever.errors import ModelError
from udever.model.lengths import crosses
from udever.training.distributed import World


def use_gradient_checkpointing(backbone: Any) -> None:
    """Let the backbone keep each layer's input alone and compute the layer again in the backward pass."""
    if hasattr(backbone, "checkpointing"):
        backbone.checkpointing = True
        return
    model = backbone.model  # the method has a new name in later releases of transformers 5
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


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


def is_sharded(backbone: nn.Module) -> bool:
    """Whether `shard` was applied."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(p, DTensor) for p in backbone.parameters())


@torch.no_grad()
def gather(backbone: Any) -> dict[str, torch.Tensor]:
    """All weights, whole, on every process: name -> tensor. For saving a sharded model."""
    from torch.distributed.tensor import DTensor

    state = backbone.state_dict()
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in state.items()}
