"""GradCache (arXiv 2101.06983) on packed micro-batches: any contrastive batch in the memory there is.

The embeddings of all texts are computed micro-batch by micro-batch, the loss and its gradient by embedding from
all of them at once, and each micro-batch is then run again to carry its part of that gradient into the weights.
As many micro-batches as fit keep what their backward pass needs and are not run a second time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from udever.errors import ModelError
from udever.model.packing import plan_batches

Embed = Callable[[Sequence[int]], Tensor]
"""Indices of texts -> their embeddings [texts, hidden], with gradients where they are on."""

_TRANSIENT = 1.3
"""What a forward and backward pass needs at its peak over what it saves, as measured on BLOOM and Qwen3."""


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
        tokens = int(memory_bytes / (bytes_per_token * _TRANSIENT))
        if tokens < 16:
            raise ModelError(
                f"{memory_bytes / 1e9:.2f} GB hold the activations of {tokens} tokens ({bytes_per_token / 1e6:.2f} MB "
                f"each); raise training.memory_gb, or turn on training.gradient_checkpointing"
            )
        return cls(min(batch_tokens, tokens), tokens)

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

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor  # holding it keeps its address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        work()
    return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())


class GradCache:
    """One batch of texts on its way: `forward`, then `backward` with the gradient by embedding.

    `lengths` are the texts' tokens. `num_batches`: where every process must run as many micro-batches as the
    others (sharded weights), the most any of them has; the missing ones are run on the first text and carry no
    gradient. Sharded runs keep everything or nothing, for the same reason.
    """

    def __init__(self, embed: Embed, lengths: Sequence[int], budget: Budget) -> None:
        self.embed = embed
        self.batches = plan_batches(lengths, budget.batch_tokens)
        room = budget.kept_tokens
        self.first_kept = len(self.batches)
        for index in reversed(range(len(self.batches))):
            room -= sum(lengths[i] for i in self.batches[index])
            if room < 0:
                break
            self.first_kept = index
        self.num_texts = len(lengths)
        self._kept: dict[int, Tensor] = {}
        self._random: dict[int, list[Tensor]] = {}

    @property
    def keeps_all(self) -> bool:
        """Whether no micro-batch is run a second time."""
        return self.first_kept == 0

    def even_out(self, num_batches: int, *, keep_all: bool) -> None:
        """Run `num_batches` micro-batches, and keep all of them or none."""
        self.batches += [[] for _ in range(num_batches - len(self.batches))]
        self.first_kept = 0 if keep_all else len(self.batches)

    def forward(self) -> Tensor:
        """Embeddings of all texts, in their order, without a graph: [texts, hidden]."""
        parts = [self._run(index) for index in range(len(self.batches))]
        order = torch.tensor([i for batch in self.batches for i in batch], device=parts[0].device)
        vectors = torch.cat(parts)
        out = torch.empty_like(vectors)
        out[order] = vectors
        return out

    def _run(self, index: int) -> Tensor:
        batch = self.batches[index]
        if index >= self.first_kept:
            vectors = self.embed(batch or [0])
            self._kept[index] = vectors
        else:
            self._random[index] = _random_state()
            with torch.no_grad():
                vectors = self.embed(batch or [0])
        return vectors.detach()[: len(batch)]

    def backward(self, gradient: Tensor) -> None:
        """Add the gradient of every text's embedding ([texts, hidden]) to the gradients of the weights."""
        for index in reversed(range(len(self.batches))):
            batch = self.batches[index]
            vectors = self._kept.pop(index, None)
            if vectors is None:
                vectors = self._again(index)
            if not vectors.requires_grad:
                continue
            own = torch.zeros_like(vectors)
            own[: len(batch)] = gradient[batch]
            vectors.backward(own)

    def _again(self, index: int) -> Tensor:
        """The micro-batch a second time, with gradients and the same dropout."""
        now = _random_state()
        _set_random_state(self._random.pop(index))
        vectors = self.embed(self.batches[index] or [0])
        _set_random_state(now)
        return vectors


def _random_state() -> list[Tensor]:
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states.append(torch.cuda.get_rng_state())
    return states


def _set_random_state(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
