"""The training loop: batches in their order, each to a loss, its gradient and one optimiser step."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from udever.allocator import return_large_blocks
from udever.embedder import Embedder
from udever.errors import ModelError
from udever.model.adapters import Tuning, apply_tuning
from udever.pairs.mixture import Batch, Mixture
from udever.progress import progress_bar
from udever.training import checkpoint
from udever.training.distributed import World
from udever.training.memory import plan_budget
from udever.training.recipe import LossSettings, TrainingSettings
from udever.training.sharding import shard, use_gradient_checkpointing
from udever.training.step import Stepper


@dataclass(frozen=True)
class Step:
    """One optimiser step; `num_tokens` are those of all processes."""

    number: int
    loss: float
    learning_rate: float
    gradient_norm: float
    num_pairs: int
    num_tokens: int
    seconds: float
    datasets: str


@dataclass(frozen=True)
class History:
    """What happened: every step of this run, the scores on the way, how many parameters moved, how many texts were cut.

    `stopped`: a signal ended the run before its last step.
    """

    steps: list[Step]
    num_trainable: int
    num_truncated: int
    scores: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    stopped: bool = False


@dataclass(frozen=True)
class Keeping:
    """Where checkpoints go, how often and how many stay, and what they must be resumed with."""

    folder: Path
    recipe: dict[str, Any]
    every: int = 500
    keep: int = 2
    resume: bool = False
    allow_changes: bool = False


@dataclass(frozen=True)
class Watch:
    """What the loop tells as it goes. `evaluate` scores the embedder every `evaluate_every` steps (0: at the end)."""

    on_start: Callable[[int], None] = lambda step: None
    on_step: Callable[[Step], None] = lambda step: None
    on_scores: Callable[[int, dict[str, float]], None] = lambda step, scores: None
    evaluate: Callable[[Embedder], dict[str, float]] | None = None
    evaluate_every: int = 0


def finetune(
    embedder: Embedder,
    mixture: Mixture,
    settings: TrainingSettings,
    loss: LossSettings | None = None,
    *,
    keeping: Keeping | None = None,
    watch: Watch | None = None,
    show_progress: bool = False,
) -> History:
    """Train `embedder`, in place, on `mixture`, together with the processes torchrun started.

    The weights must be float32 (`Embedder.load(..., dtype="float32")`). SIGTERM and Ctrl-C end the run after
    the step they fall into, with a checkpoint where `keeping` is given. Raises ModelError where the tuning does not fit
    the backbone, the loss or its gradient is not finite (naming the batch; checkpoints stay as they are), or
    the weights are of half precision, in which small updates round to nothing.
    """
    trainer = Trainer.prepare(embedder, mixture, settings, loss or LossSettings())
    return trainer.run(keeping, watch or Watch(), show_progress=show_progress)


@dataclass
class Trainer:
    """A run that is set up: model, optimiser, plan. Not made directly: see `prepare`."""

    embedder: Embedder
    mixture: Mixture
    settings: TrainingSettings
    stepper: Stepper
    optimizer: torch.optim.Optimizer
    num_trainable: int
    num_truncated: int = 0

    @classmethod
    def prepare(cls, embedder: Embedder, mixture: Mixture, settings: TrainingSettings, loss: LossSettings) -> "Trainer":
        """Make what the tuning names trainable, spread it over the processes, plan the memory. See `finetune`."""
        model: Any = embedder.backbone
        if next(model.parameters()).dtype not in (torch.float32, torch.float64):
            raise ModelError("training needs float32 weights; load the model with dtype='float32'")
        if embedder.device.type == "cpu":
            return_large_blocks()
        world = World.from_environment(embedder.device)
        torch.manual_seed(settings.seed)
        num_trainable = apply_tuning(
            model,
            pick_tuning(model, settings),
            lora_rank=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
        )
        if settings.gradient_checkpointing:
            use_gradient_checkpointing(model)
        model.train()
        sharded = settings.sharding == "full"
        budget = plan_budget(embedder, settings, mixture)
        if sharded:
            shard(model, world, embedder.contract.max_length)
        torch.manual_seed(settings.seed + world.rank)  # dropout differs between processes
        stepper = Stepper(embedder, settings, loss.options(), budget, world, sharded)
        return cls(embedder, mixture, settings, stepper, make_optimizer(model, settings), num_trainable)

    @property
    def num_steps(self) -> int:
        """Optimiser steps in all."""
        return num_steps(self.mixture, self.settings)

    @property
    def names(self) -> dict[int, str]:
        """Names of the trained parameters by `id`."""
        model: Any = self.embedder.backbone
        return {id(p): name for name, p in model.named_parameters() if p.requires_grad}

    def run(self, keeping: Keeping | None, watch: Watch, *, show_progress: bool) -> History:
        """Every step that is left. See `finetune`."""
        world, total = self.stepper.world, self.num_steps
        first = self._resume(keeping) if keeping else 0
        watch.on_start(first)
        history = History([], self.num_trainable, 0)
        stopped = False
        shown = show_progress and world.leads
        with _stop_signals() as stop, progress_bar("training", total, enabled=shown) as advance:
            advance(first)
            for number in range(first, total):
                step = self.step(number)
                history.steps.append(step)
                advance(note=_note(history.steps[-20:], self.stepper.budget.batch_tokens))
                watch.on_step(step)
                stopped = world.largest(float(stop.is_set())) > 0
                done = number + 1
                if keeping and (stopped or done % keeping.every == 0 or done == total):
                    self.save(keeping, done)
                if stopped:
                    break
                if watch.evaluate_every and done % watch.evaluate_every == 0 and done < total:
                    self._evaluate(watch, done, history)
        stopped = stopped and first + len(history.steps) < total
        model: Any = self.embedder.backbone
        model.eval()
        self.embedder.weights_changed()
        if not stopped:
            self._evaluate(watch, total, history)
        return History(history.steps, self.num_trainable, self.num_truncated, history.scores, stopped)

    def step(self, number: int) -> Step:
        """Batch `number` (from 0): loss, gradients, clipping and one optimiser step."""
        started = time.perf_counter()
        rate = self.settings.learning_rate * rate_factor(number, self.num_steps, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.mixture.batch(number)
        self.optimizer.zero_grad(set_to_none=True)
        outcome = self.stepper.accumulate(batch)
        trainable = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trainable, self.settings.max_grad_norm)
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # pyright: ignore[reportAttributeAccessIssue]
        if not (math.isfinite(outcome.loss) and math.isfinite(norm)):
            raise ModelError(_not_finite(batch, outcome.loss, norm))
        self.optimizer.step()
        self.num_truncated += outcome.num_truncated
        seconds = time.perf_counter() - started
        names = ", ".join(dict.fromkeys(traits.name for traits in batch.traits))
        return Step(number + 1, outcome.loss, rate, norm, len(batch.pairs), outcome.num_tokens, seconds, names)

    def save(self, keeping: Keeping, step: int) -> None:
        """Write the checkpoint after `step` steps, and delete those beyond the last `keep`."""
        state = checkpoint.State(
            step=step,
            budget=[self.stepper.budget.batch_tokens, self.stepper.budget.kept_tokens],
            recipe=keeping.recipe,
            data=self.mixture.fingerprint,
            streams=self.mixture.state(),
            num_truncated=self.num_truncated,
        )
        world = self.stepper.world
        checkpoint.save(keeping.folder, state, self.optimizer, self.names, world)
        if world.leads:
            checkpoint.prune(keeping.folder, keeping.keep)

    def _resume(self, keeping: Keeping) -> int:
        """Go back to the last checkpoint; the number of steps it has behind it, 0 where there is none."""
        found = checkpoint.checkpoints(keeping.folder)
        if not found or not keeping.resume:
            return 0
        state = checkpoint.read_state(found[-1])
        if not keeping.allow_changes:
            checkpoint.check_same(state, keeping.recipe, self.mixture.fingerprint, keeping.folder)
        checkpoint.load(found[-1], self.optimizer, self.names, self.stepper.world)
        self.stepper.budget.batch_tokens, self.stepper.budget.kept_tokens = state.budget
        self.mixture.restore(state.streams)
        self.num_truncated = state.num_truncated
        return state.step

    def _evaluate(self, watch: Watch, step: int, history: History) -> None:
        if watch.evaluate is None or self.stepper.sharded:
            return
        model: Any = self.embedder.backbone
        random, was_training = torch.get_rng_state(), model.training
        model.eval()
        self.embedder.weights_changed()
        scores = watch.evaluate(self.embedder)
        model.train(was_training)
        torch.set_rng_state(random)
        history.scores.append((step, scores))
        watch.on_scores(step, scores)


def _not_finite(batch: Batch, loss: float, norm: float) -> str:
    names = ", ".join(dict.fromkeys(traits.name for traits in batch.traits))
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    return (
        f"{what} in batch {batch.number} ({names}; it begins {batch.pairs[0].anchor[:60]!r}); nothing was written "
        f"since the last checkpoint: lower learning_rate, raise warmup, or look at that batch"
    )


def num_steps(mixture: Mixture, settings: TrainingSettings) -> int:
    """Optimiser steps in all. Raises DataError for a stream without `max_steps`: nobody knows its length."""
    if mixture.streams and settings.max_steps is not None:
        return settings.max_steps
    planned = max(1, round(settings.epochs * mixture.batches_per_epoch))
    return min(planned, settings.max_steps or planned)


def rate_factor(step: int, total: int, settings: TrainingSettings) -> float:
    """What the learning rate is multiplied by at `step` (from 0): a linear rise, then constant or half a cosine."""
    warmup = round(settings.warmup * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


_SMALL = 100_000_000
"""Parameters outside the embedding table below which "auto" moves all of them."""


def pick_tuning(model: nn.Module, settings: TrainingSettings) -> Tuning:
    """All weights of a small backbone, LoRA for a large one (dev/LOG.md); what the settings name goes first."""
    if settings.tuning != "auto":
        return settings.tuning
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return "full" if sum(p.numel() for p in model.parameters() if id(p) not in tables) < _SMALL else "lora"


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


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, inside the block; a second one acts as it always does."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {int(s): signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(steps: list[Step], batch_tokens: int) -> str:
    seconds = sum(step.seconds for step in steps)
    loss = sum(step.loss for step in steps) / len(steps)
    pairs, tokens = (sum(getattr(step, name) for step in steps) / seconds for name in ("num_pairs", "num_tokens"))
    return f"loss {loss:.3f}  {pairs:,.0f} pairs/s  {tokens:,.0f} tokens/s  micro-batch {batch_tokens:,}"
