"""How much memory training takes: measured on a few tokens of the run's own data, then planned."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from udever.allocator import resident_bytes
from udever.embedder import Embedder
from udever.errors import ModelError
from udever.model.backbone import pick_dtype
from udever.pairs.mixture import Mixture
from udever.training.batches import Tokens, embedding
from udever.training.recipe import TrainingSettings

_BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
_MOST_TOKENS, _SMALL_BYTES = 32_768, 2.5e8
"""Small models on the CPU take larger micro-batches, up to so many bytes: each has the gradient of a whole table."""

_PROBE_TOKENS = 512
_PROBE_TEXTS = 64
_TRANSIENT = 0.3
"""What a micro-batch needs at its peak beside what it saves, as a share of that; measured on BLOOM, Qwen3, Gemma 3."""


@dataclass
class Budget:
    """How many tokens go into one micro-batch, and of how many tokens the saved activations may stay.

    Halved once, when memory runs out in spite of the plan.
    """

    batch_tokens: int
    kept_tokens: int
    shrunk: bool = False

    @classmethod
    def from_memory(cls, memory_bytes: float, bytes_per_token: float, batch_tokens: int) -> "Budget":
        """The plan for so much memory. Raises ModelError where not even 16 tokens fit."""
        tokens = memory_bytes / bytes_per_token
        whole = int(tokens / (1 + _TRANSIENT))
        if whole < 16:
            raise ModelError(
                f"{memory_bytes / 1e9:.2f} GB hold activations of only {whole} tokens ({bytes_per_token / 1e6:.2f} MB "
                f"each); raise training.memory_gb, or turn on training.gradient_checkpointing"
            )
        micro_batch = min(batch_tokens, whole)
        return cls(micro_batch, int(tokens - _TRANSIENT * micro_batch))

    def peak_bytes(self, step_tokens: float, bytes_per_token: float) -> float:
        """What the activations of a step of so many tokens take at most."""
        micro_batch = min(step_tokens, self.batch_tokens)
        kept = max(micro_batch, min(step_tokens, self.kept_tokens))
        return (kept + _TRANSIENT * micro_batch) * bytes_per_token

    def shrink(self) -> None:
        """Halve everything. Raises ModelError the second time."""
        if self.shrunk:
            raise ModelError(
                f"memory ran out twice, last with {self.batch_tokens} tokens in a micro-batch; "
                f"lower training.memory_gb or turn on training.gradient_checkpointing"
            )
        self.batch_tokens, self.kept_tokens = max(1, self.batch_tokens // 2), self.kept_tokens // 2
        self.shrunk = True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
    )


def saved_bytes(work: Callable[[], object]) -> int:
    """How many bytes `work` saves for its backward pass, each storage once, whatever the device."""
    seen: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> None:
        """Hold a tensor, so that its address is not used again. What is saved is nothing."""
        if not isinstance(tensor, torch.nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda nothing: nothing):
        work()
    total = sum(tensor.untyped_storage().nbytes() for tensor in seen.values())
    seen.clear()  # the graph holds `note`, and what it gave is in here: both would stay for ever
    return total


def taken_bytes(device: torch.device) -> tuple[int, int] | None:
    """What this process has of the device's memory now, and the most it had; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return resident_bytes()


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
    ids = [list(ids) for ids in embedder.tokenize(texts, "document", max_length=settings.max_length).ids]
    chosen, total = [], 0
    for sequence in sorted(ids, key=len):
        if chosen and total + len(sequence) > _PROBE_TOKENS:
            break
        chosen.append(sequence)
        total += len(sequence)
    dtype = pick_dtype(settings.precision, embedder.device)
    embed = embedding(embedder, Tokens(chosen[::-1], [0] * len(chosen), [False] * len(chosen)), dtype)
    random = torch.get_rng_state()
    saved = saved_bytes(lambda: embed(range(len(chosen))))
    torch.set_rng_state(random)
    return max(saved, 1) / total


def plan_budget(embedder: Embedder, settings: TrainingSettings, mixture: Mixture) -> Budget:
    """Micro-batches for the memory the settings give. Raises ModelError where next to nothing fits."""
    device = embedder.device
    memory = default_memory_bytes(device) if settings.memory_gb is None else settings.memory_gb * 1e9
    per_token = bytes_per_token(embedder, settings, mixture)
    most = _BATCH_TOKENS.get(device.type, _BATCH_TOKENS["cpu"])
    return Budget.from_memory(memory, per_token, max(most, min(_MOST_TOKENS, int(_SMALL_BYTES / per_token))))
