"""The optimiser, and how fast each part of a model moves at each step."""

import math
from fnmatch import fnmatchcase

import torch
from torch import nn

from udever.errors import ModelError
from udever.nearest import suggestion
from udever.training.recipe import TrainingSettings

Parts = dict[tuple[float, bool], list[nn.Parameter]]


def rate_factor(step: int, total: int, settings: TrainingSettings) -> float:
    """What the learning rate is multiplied by at `step` (from 0).

    A linear rise, then half a cosine, or constant up to a linear fall to nothing.
    """
    warmup, decay = round(settings.warmup * total), round(settings.decay * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    return min(1.0, (total - step) / (decay + 1))


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW; biases, norms and embeddings are not decayed, and each part has its rate (`set_rate`).

    Raises ModelError for a pattern of `settings.rates` that no trained parameter fits.
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for pattern in settings.rates:
        if not any(fnmatchcase(name, pattern) for name in trained):
            raise ModelError(
                f"training.rates names {pattern!r}, and no parameter that is trained is called so; "
                f"{suggestion(pattern, list(trained), 'there are')}"
            )
    parts: Parts = {}
    for name, parameter in trained.items():
        factor = next((rate for pattern, rate in settings.rates.items() if fnmatchcase(name, pattern)), 1.0)
        is_decayed = parameter.ndim > 1 and id(parameter) not in embeddings
        parts.setdefault((factor, is_decayed), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": settings.weight_decay if is_decayed else 0.0, "factor": factor}
        for (factor, is_decayed), parameters in parts.items()
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, settings.beta2), fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let every part move at `rate` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
