"""The optimiser: which parts of the model are decayed, which have a rate of their own, and the table of tokens."""

from fnmatch import fnmatchcase

import torch
from torch import nn

from udever.errors import ModelError
from udever.model.adapters import table_parameters
from udever.nearest import suggestion
from udever.training.averages import Averages
from udever.training.recipe import TrainingSettings
from udever.training.table_rows import TableRows

Parts = dict[tuple[float, bool], list[nn.Parameter]]


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW; biases, norms and embeddings are not decayed, and each part has its rate (`set_rate` of `loop.py`).

    Raises ModelError for a pattern of `settings.rates` that no trained parameter fits.
    """
    embeddings = {id(p) for p in table_parameters(model)}
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


def table_by_rows(model: nn.Module, optimizer: torch.optim.AdamW, averages: Averages | None) -> TableRows | None:
    """The table of tokens, to be moved row by row, where it is trained on the CPU."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    table = max(tables, key=lambda module: module.num_embeddings, default=None)
    if table is None or not table.weight.requires_grad or table.weight.device.type != "cpu":
        return None
    return TableRows(table, optimizer, averages)
