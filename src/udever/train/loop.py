"""The training loop, on one process: batch -> vectors by the one path -> InfoNCE -> AdamW."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from udever.config import TrainingSettings
from udever.data.pairs import Pair
from udever.embedder import Embedder
from udever.errors import DataError, ModelError
from udever.losses import pair_loss
from udever.model.adapters import Tuning, apply_tuning
from udever.model.backbone import pick_dtype
from udever.model.pooling import unit
from udever.progress import progress_bar
from udever.train.batches import Batch, batches_per_epoch, epoch_batches


@dataclass(frozen=True)
class Step:
    """One optimiser step."""

    number: int
    loss: float
    learning_rate: float
    num_tokens: int
    seconds: float


@dataclass(frozen=True)
class History:
    """What happened: every step, how many parameters moved, how many texts were cut."""

    steps: list[Step]
    num_trainable: int
    num_truncated: int


def finetune(
    embedder: Embedder,
    pairs: Sequence[Pair],
    settings: TrainingSettings,
    *,
    on_step: Callable[[Step], None] | None = None,
    show_progress: bool = False,
) -> History:
    """Train `embedder`, in place, on `pairs`.

    The weights must be float32 (`Embedder.load(..., dtype="float32")`). Raises DataError for fewer than
    two pairs, ModelError where the tuning does not fit the backbone, the loss is not finite, or the
    weights are of half precision, in which small updates round to nothing.
    """
    if len(pairs) < 2:
        raise DataError(f"{len(pairs)} training pair given; expected at least 2, to have a negative")
    model: Any = embedder.backbone
    if next(model.parameters()).dtype != torch.float32:
        raise ModelError("training needs float32 weights; load the model with dtype='float32'")
    torch.manual_seed(settings.seed)
    tuning = _pick_tuning(model, settings)
    num_trainable = apply_tuning(
        model,
        tuning,
        lora_rank=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
    )
    total = num_steps(pairs, settings)
    optimizer = make_optimizer(model, settings)
    steps: list[Step] = []
    num_truncated = 0
    model.train()
    with progress_bar("training", total, enabled=show_progress) as advance:
        for number, batch in enumerate(_batches(pairs, settings, total), start=1):
            started = time.perf_counter()
            rate = settings.learning_rate * rate_factor(number - 1, total, settings)
            loss, num_tokens, cut = train_step(embedder, batch, optimizer, rate, settings)
            if not math.isfinite(loss):
                raise ModelError(f"the loss is {loss} at step {number}; lower learning_rate or raise warmup")
            step = Step(number, loss, rate, num_tokens, time.perf_counter() - started)
            steps.append(step)
            num_truncated += cut
            advance(note=_note(steps[-20:], len(batch.pairs)))
            if on_step is not None:
                on_step(step)
    model.eval()
    embedder.weights_changed()
    return History(steps, num_trainable, num_truncated)


def num_steps(pairs: Sequence[Pair], settings: TrainingSettings) -> int:
    """Optimiser steps in all."""
    planned = max(1, round(settings.epochs * batches_per_epoch(pairs, settings.batch_size)))
    return min(planned, settings.max_steps or planned)


def rate_factor(step: int, total: int, settings: TrainingSettings) -> float:
    """What the learning rate is multiplied by at `step` (from 0): a linear rise, then constant or half a cosine."""
    warmup = round(settings.warmup * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def batch_loss(embedder: Embedder, batch: Batch, temperature: float) -> tuple[Tensor, int, int]:
    """The loss of one batch, with its gradient; how many tokens it took and how many texts were cut.

    Anchors, positives and negatives go through the backbone as one packed batch.
    """
    anchor_role, document_role = ("symmetric", "symmetric") if batch.symmetric else ("query", "document")
    pairs = len(batch.pairs)
    anchors = embedder.tokenize([pair.anchor for pair in batch.pairs], anchor_role)
    documents = embedder.tokenize([*(pair.positive for pair in batch.pairs), *batch.negatives], document_role)
    ids = [*anchors.ids, *documents.ids]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))  # near-equal lengths side by side
    place = torch.empty(len(ids), dtype=torch.int64)
    place[torch.tensor(order)] = torch.arange(len(ids))
    vectors = unit(embedder.embed_tokens([ids[i] for i in order], anchors.skip))[place.to(embedder.device)]
    loss = pair_loss(
        vectors[:pairs],
        vectors[pairs : 2 * pairs],
        vectors[2 * pairs :],
        temperature=temperature,
        known=batch.known().to(embedder.device),
        both_ways=batch.symmetric,
    )
    cut = int(anchors.truncation.truncated.sum() + documents.truncation.truncated.sum())
    return loss, sum(map(len, ids)), cut


def train_step(
    embedder: Embedder,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    rate: float,
    settings: TrainingSettings,
) -> tuple[float, int, int]:
    """Loss, gradients, clipping and one optimiser step at learning rate `rate`, unless the loss is not finite.

    Returns the loss, and the batch's tokens and cut texts.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    with _autocast(settings, embedder.device):
        loss, num_tokens, cut = batch_loss(embedder, batch, settings.temperature)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    trainable = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(trainable, settings.max_grad_norm)
    value = float(loss.detach())
    if math.isfinite(value):
        optimizer.step()
    return value, num_tokens, cut


def _batches(pairs: Sequence[Pair], settings: TrainingSettings, total: int) -> Iterator[Batch]:
    made, epoch = 0, 0
    while made < total:
        for batch in epoch_batches(pairs, settings.batch_size, settings.seed, epoch):
            yield batch
            made += 1
            if made == total:
                return
        epoch += 1


def _pick_tuning(model: nn.Module, settings: TrainingSettings) -> Tuning:
    """The paper's BitFit where there are biases to move, LoRA elsewhere."""
    if settings.tuning != "auto":
        return settings.tuning
    has_biases = any(name.endswith("bias") for name, _ in model.named_parameters())
    return "bitfit" if has_biases else "lora"


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW; biases, norms and embeddings are not decayed."""
    decayed, plain = [], []
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    for parameter in model.parameters():
        if parameter.requires_grad:
            keep = parameter.ndim < 2 or id(parameter) in embeddings
            (plain if keep else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, fused=True)


def _autocast(settings: TrainingSettings, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    dtype = pick_dtype(settings.precision, device)
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def _note(steps: list[Step], batch_size: int) -> str:
    seconds = sum(step.seconds for step in steps)
    loss = sum(step.loss for step in steps) / len(steps)
    tokens = sum(step.num_tokens for step in steps) / seconds
    return f"loss {loss:.3f}  {batch_size * len(steps) / seconds:,.0f} pairs/s  {tokens:,.0f} tokens/s"
