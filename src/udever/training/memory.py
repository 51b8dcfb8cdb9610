"""How much memory training takes: measured on a few tokens of the run's own data, then planned."""

import os
from typing import Any

import torch

from udever.embedder import Embedder
from udever.errors import ModelError
from udever.pairs.mixture import Mixture
from udever.training.grad_cache import Budget, saved_bytes
from udever.training.recipe import TrainingSettings
from udever.training.step import autocast

_BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
_PROBE_TOKENS = 512
_PROBE_TEXTS = 64


def default_memory_bytes(device: torch.device) -> float:
    """A quarter of the machine's memory, half of the accelerator's: the same on every start of a run.

    Raises ModelError where the system does not tell it.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2
    if not hasattr(os, "sysconf"):
        raise ModelError("this system does not tell how much memory it has; set memory_gb in the recipe's [training]")
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 4


def bytes_per_token(embedder: Embedder, settings: TrainingSettings, mixture: Mixture) -> float:
    """What a token saves for the backward pass, measured on the first texts of the first batches."""
    texts = list(mixture.texts(_PROBE_TEXTS))
    ids = [list(ids) for ids in embedder.tokenize(texts, "document").ids]
    chosen, total = [], 0
    for sequence in sorted(ids, key=len):
        if chosen and total + len(sequence) > _PROBE_TOKENS:
            break
        chosen.append(sequence)
        total += len(sequence)
    random = torch.get_rng_state()

    def work() -> Any:
        with autocast(settings, embedder.device):
            return embedder.embed_tokens(chosen[::-1])

    saved = saved_bytes(work)
    torch.set_rng_state(random)
    return max(saved, 1) / total


def plan_budget(embedder: Embedder, settings: TrainingSettings, mixture: Mixture) -> Budget:
    """Micro-batches for the memory the settings give. Raises ModelError where next to nothing fits."""
    device = embedder.device
    memory = default_memory_bytes(device) if settings.memory_gb is None else settings.memory_gb * 1e9
    most = _BATCH_TOKENS.get(device.type, _BATCH_TOKENS["cpu"])
    return Budget.from_memory(memory, bytes_per_token(embedder, settings, mixture), most)
