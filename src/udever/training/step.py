"""One step: a batch of pairs to a loss and the gradients of the weights, on one process or many."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from udever.embedder import Embedder
from udever.errors import ModelError
from udever.model.backbone import pick_dtype
from udever.model.contract import RoleName
from udever.pairs.mixture import Batch
from udever.training.batches import BatchTexts, Text, batch_texts
from udever.training.distributed import World
from udever.training.grad_cache import Budget, GradCache, is_out_of_memory
from udever.training.objectives import LossOptions, contrastive_loss
from udever.training.recipe import TrainingSettings


@dataclass(frozen=True)
class Tokens:
    """The token sequences of some texts, how many of each are a prompt to be left out, how many texts were cut."""

    ids: list[list[int]]
    skip: list[int]
    num_truncated: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.ids]


def tokenize(embedder: Embedder, texts: Sequence[Text]) -> Tokens:
    """Tokens of `texts`, each with its role's markers and its instruction, in their order."""
    ids: list[list[int]] = [[] for _ in texts]
    skip = [0] * len(texts)
    cut = 0
    kinds: dict[tuple[RoleName, str | None], None] = dict.fromkeys((text.role, text.instruction) for text in texts)
    for role, instruction in kinds:
        places = [i for i, text in enumerate(texts) if (text.role, text.instruction) == (role, instruction)]
        prompt = None if instruction is None else embedder.instructed(instruction)
        tokenized = embedder.tokenize([texts[i].text for i in places], role, prompt)
        cut += int(tokenized.truncation.truncated.sum())
        for place, sequence in zip(places, tokenized.ids, strict=True):
            ids[place], skip[place] = list(sequence), tokenized.skip
    return Tokens(ids, skip, cut)


def autocast(settings: TrainingSettings, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 products over float32 weights where the settings ask for it or the device is good at it."""
    dtype = pick_dtype(settings.precision, device)
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@dataclass(frozen=True)
class Outcome:
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
    options: LossOptions
    budget: Budget
    world: World = field(default_factory=World)
    sharded: bool = False

    def accumulate(self, batch: Batch) -> Outcome:
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

    def _attempt(self, texts: BatchTexts) -> Outcome:
        own = texts.share(self.world.rank, self.world.size)
        tokens = tokenize(self.embedder, [texts.texts[i] for i in own])
        cache = GradCache(self._embed(tokens), tokens.lengths, self.budget)
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
        counts = torch.tensor([sum(tokens.lengths), tokens.num_truncated], dtype=torch.float64, device=vectors.device)
        num_tokens, num_truncated = self.world.sum(counts).tolist()
        return Outcome(loss, int(num_tokens), int(num_truncated), cache.keeps_all)

    def _embed(self, tokens: Tokens) -> Any:
        def embed(indices: Sequence[int]) -> Tensor:
            with autocast(self.settings, self.embedder.device):
                return self.embedder.embed_tokens([tokens.ids[i] for i in indices], [tokens.skip[i] for i in indices])

        return embed

    def _loss(self, texts: BatchTexts, vectors: Tensor) -> tuple[float, Tensor]:
        """The loss, and its gradient by every text's embedding [texts, hidden], summed over the processes."""
        leaf = vectors.requires_grad_()
        device = vectors.device
        rows = torch.arange(self.world.rank, len(texts.anchors), self.world.size, device=device)
        sides = [leaf.index_select(0, index.to(device)) for index in (texts.anchors, texts.positives, texts.negatives)]
        loss = contrastive_loss(sides[0], sides[1], sides[2], texts.ids, self.options, rows)
        (gradient,) = torch.autograd.grad(loss, leaf)
        total = self.world.sum(loss.detach().clone())
        gradient = self.world.sum(gradient)
        # FSDP averages the processes' gradients; ours are parts of a sum.
        return float(total), gradient * self.world.size if self.sharded else gradient


def held_out_loss(
    embedder: Embedder, batches: Iterable[Batch], options: LossOptions, batch_tokens: int | None = None
) -> float:
    """The mean loss of `batches`, with no gradient and no change to the model."""
    losses = []
    budget = Budget(embedder.token_budget(batch_tokens), 0)
    for batch in batches:
        texts = batch_texts(batch)
        tokens = tokenize(embedder, texts.texts)

        def embed(indices: Sequence[int], tokens: Tokens = tokens) -> Tensor:
            return embedder.embed_tokens([tokens.ids[i] for i in indices], [tokens.skip[i] for i in indices])

        with torch.inference_mode():
            vectors = GradCache(embed, tokens.lengths, budget).forward()
        sides = [vectors[index.to(vectors.device)] for index in (texts.anchors, texts.positives, texts.negatives)]
        with torch.no_grad():
            losses.append(float(contrastive_loss(sides[0], sides[1], sides[2], texts.ids, options)))
    return sum(losses) / len(losses)
