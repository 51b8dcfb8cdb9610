"""What training moves where the settings leave it open: by the size of the backbone and of its table."""

from torch import nn

from udever.model.adapters import Tuning, table_parameters
from udever.training.recipe import TrainingSettings

SMALL = 10_000_000
"""Parameters outside the embedding table below which training waits for memory and not for products."""
LARGE = 50_000_000
"""Parameters outside the embedding table from which on "auto" takes LoRA: most of Gemma 3 270M has more."""
LARGE_TABLE = 100_000_000
"""Parameters of an embedding table from which on full finetuning leaves it as it is where nobody says."""


def pick_tuning(model: nn.Module, settings: TrainingSettings) -> Tuning:
    """All weights of a small backbone, LoRA for a large one (dev/LOG.md); what the settings name goes first."""
    if settings.tuning != "auto":
        return settings.tuning
    return "lora" if is_large(model) else "full"


def is_large(model: nn.Module) -> bool:
    """Whether the backbone has 50 million parameters and more outside its embedding table."""
    return _outside_tables(model) >= LARGE


def is_small(model: nn.Module) -> bool:
    """Whether it has fewer than 10 million there: memory and not products then take the time."""
    return _outside_tables(model) < SMALL


def _outside_tables(model: nn.Module) -> int:
    tables = {id(p) for p in table_parameters(model)}
    return sum(p.numel() for name, p in model.named_parameters() if id(p) not in tables and "lora_" not in name)


def freezes_table(model: nn.Module, settings: TrainingSettings) -> bool:
    """Whether full finetuning leaves the embedding table as it is: by the settings, else a large one."""
    if settings.embeddings != "auto":
        return settings.embeddings == "freeze"
    return pick_tuning(model, settings) == "full" and sum(p.numel() for p in table_parameters(model)) >= LARGE_TABLE
