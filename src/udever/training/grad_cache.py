"""GradCache (arXiv 2101.06983) on packed micro-batches: any contrastive batch in the memory there is.

The embeddings of all texts are computed micro-batch by micro-batch, the loss and its gradient by embedding from
all of them at once, and each micro-batch is then run again to carry its part of that gradient into the weights.
As many micro-batches as fit keep what their backward pass needs and are not run a second time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from udever.embedder import Embedder
from udever.errors import ModelError
from udever.model.backbone import pick_dtype
from udever.model.packing import plan_batches
from udever.pairs.mixture import Batch
from udever.training.batches import BatchTexts, Embed, TokenCache, batch_texts, embedding, tokenize
from udever.training.distributed import World
from udever.training.likeness import likeness_loss
from udever.training.memory import Budget, is_out_of_memory
from udever.training.objectives import LossSettings, contrastive_loss
from udever.training.recipe import TrainingSettings


class GradCache:
    """One batch of texts on its way: `forward`, then `backward` with the gradient by embedding.

    `lengths` are the texts' tokens. Without any, the first of what `embed` knows is run and nothing of it is taken.
    """

    def __init__(self, embed: Embed, lengths: Sequence[int], budget: Budget) -> None:
        self.embed = embed
        self.batches = plan_batches(lengths, budget.batch_tokens) or [[]]
        room = budget.kept_tokens
        self.first_kept = len(self.batches)
        for index in reversed(range(len(self.batches))):
            room -= sum(lengths[i] for i in self.batches[index])
            if room < 0:
                break
            self.first_kept = index
        self._kept: dict[int, Tensor] = {}
        self._random: dict[int, list[Tensor]] = {}

    @property
    def keeps_all(self) -> bool:
        """Whether no micro-batch is run a second time."""
        return self.first_kept == 0

    def even_out(self, num_batches: int, *, keep_all: bool) -> None:
        """Run `num_batches` micro-batches, and keep all of them or none: sharded weights want processes in step.

        Those that are missing are run on the first text and carry no gradient.
        """
        self.batches += [[] for _ in range(num_batches - len(self.batches))]
        self.first_kept = 0 if keep_all else len(self.batches)

    def forward(self) -> Tensor:
        """Embeddings of all texts, in their order, without a graph: [texts, hidden]."""
        parts = [self._run(index) for index in range(len(self.batches))]
        order = [i for batch in self.batches for i in batch]
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


@dataclass(frozen=True)
class BatchOutcome:
    """A batch's loss, tokens and cut texts over all processes, and whether one forward pass was enough."""

    loss: float
    num_tokens: int
    num_truncated: int
    kept_all: bool


@dataclass
class Stepper:
    """Computes loss and gradients of batches. `sharded` weights want all processes to run in step."""

    embedder: Embedder
    settings: TrainingSettings
    loss: LossSettings
    budget: Budget
    world: World = field(default_factory=World)
    sharded: bool = False

    def __post_init__(self) -> None:
        self._dtype = pick_dtype(self.settings.precision, self.embedder.device)
        self._tokens = TokenCache(self.settings.token_cache_gb * 1e9, self.settings.max_length)

    def accumulate(self, batch: Batch) -> BatchOutcome:
        """Add the gradient of the batch's loss to the weights' gradients and return what it came to.

        The batch is the whole one on every process. Where memory runs out on a process that trains alone, the
        budget is halved, once, and the batch begun again; raises ModelError the second time.
        """
        texts = batch_texts(batch)
        state = torch.get_rng_state()
        while True:
            try:
                return self._attempt(texts)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.world.size > 1:
                    raise ModelError(
                        f"memory ran out on process {self.world.rank} with {self.budget.batch_tokens} tokens in a "
                        f"micro-batch; lower training.memory_gb"
                    ) from error
            self.budget.shrink()
            for parameter in self._parameters():
                parameter.grad = None
            torch.set_rng_state(state)

    def _parameters(self) -> list[torch.nn.Parameter]:
        model: Any = self.embedder.backbone
        return [p for p in model.parameters() if p.requires_grad]

    def _attempt(self, texts: BatchTexts) -> BatchOutcome:
        own = texts.share(self.world.rank, self.world.size)
        # A process without a text of its own runs one for nothing: sharded layers wait for all.
        tokens = self._tokens.tokenize(self.embedder, [texts.texts[i] for i in own or [0]])
        embed = embedding(self.embedder, tokens, self._dtype)
        cache = GradCache(embed, tokens.lengths if own else [], self.budget)
        if self.sharded:
            fewest_kept = -self.world.largest(-float(cache.keeps_all))
            cache.even_out(int(self.world.largest(len(cache.batches))), keep_all=bool(fewest_kept))
        vectors = cache.forward()
        everyone = torch.zeros(len(texts.texts), vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        everyone[own] = vectors
        loss, gradient = self._loss(texts, self.world.sum(everyone))
        cache.backward(gradient[own])
        if not self.sharded:
            self.world.sum_gradients(self._parameters())
        counted = [sum(tokens.lengths), tokens.num_truncated] if own else [0, 0]
        counts = torch.tensor(counted, dtype=torch.float64, device=vectors.device)
        num_tokens, num_truncated = self.world.sum(counts).tolist()
        return BatchOutcome(loss, int(num_tokens), int(num_truncated), cache.keeps_all)

    def _loss(self, texts: BatchTexts, vectors: Tensor) -> tuple[float, Tensor]:
        """The loss, and its gradient by every text's embedding [texts, hidden], summed over the processes."""
        leaf = vectors.requires_grad_()
        device = vectors.device
        num_rows = len(texts.anchors) if texts.lesson is None else len(texts.texts)
        rows = torch.arange(num_rows, device=device)[self.world.rank :: self.world.size]
        loss = batch_loss(texts, leaf, self.loss, rows)
        (gradient,) = torch.autograd.grad(loss, leaf)
        total = self.world.sum(loss.detach().clone())
        gradient = self.world.sum(gradient)
        # FSDP averages the processes' gradients; ours are parts of a sum.
        return float(total), gradient * self.world.size if self.sharded else gradient


def batch_loss(texts: BatchTexts, vectors: Tensor, loss: LossSettings, rows: Tensor | None = None) -> Tensor:
    """The share of `rows` (pairs, or texts with a lesson; all where None) of a batch's loss, by its texts' vectors."""
    if texts.lesson is not None:
        return likeness_loss(vectors, texts.lesson, loss, rows)
    index = (texts.anchors, texts.positives, texts.negatives)
    anchors, positives, negatives = (vectors.index_select(0, places.to(vectors.device)) for places in index)
    return contrastive_loss(anchors, positives, negatives, texts.ids, loss, rows)


def held_out_loss(embedder: Embedder, batches: Iterable[Batch], loss: LossSettings) -> float:
    """The mean loss of the rows of `batches`, with no gradient and no change to the model."""
    total, num_rows = 0.0, 0
    budget = Budget(embedder.token_budget(), 0)
    for batch in batches:
        texts = batch_texts(batch)
        tokens = tokenize(embedder, texts.texts)
        with torch.inference_mode():
            vectors = GradCache(embedding(embedder, tokens), tokens.lengths, budget).forward()
        with torch.no_grad():
            total += float(batch_loss(texts, vectors, loss)) * len(batch.pairs)
        num_rows += len(batch.pairs)
    return total / num_rows
