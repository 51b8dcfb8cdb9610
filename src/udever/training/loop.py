"""The training loop: batches in their order, each to a loss, its gradient and one optimiser step."""

import contextlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from udever.allocator import Heap, give_back_free, keep_blocks, return_large_blocks
from udever.embedder import Embedder
from udever.errors import ModelError
from udever.model.adapters import apply_tuning
from udever.model.backbone import width
from udever.pairs.mixture import Batch, Mixture
from udever.processors import BusyWarning, Company
from udever.progress import progress_bar
from udever.training import checkpoint
from udever.training.averages import Averages
from udever.training.distributed import World, shard
from udever.training.grad_cache import Stepper
from udever.training.log import History, Log, ScoresWarning, StepRecord
from udever.training.memory import plan_budget
from udever.training.objectives import LossSettings
from udever.training.optimizer import make_optimizer, table_by_rows
from udever.training.recipe import TrainingSettings, WatchSettings
from udever.training.table_rows import TableRows
from udever.training.tuning import freezes_table, is_small, pick_tuning
from udever.training.validation import HeldOut

_BUSY = (
    "other processes began to take processors that this run had to itself, and its steps take longer; its threads wait "
    "as was best when it began: stop it and go on with --resume to choose anew, or give it fewer --threads"
)
_UNSCORED = (
    "training.sharding is 'full', and held-out rows are not scored while weights are spread over processes; score the "
    "saved model with udever eval"
)


@dataclass(frozen=True)
class Keeping:
    """Where checkpoints go, and how many of them and how often; what a run that goes on must have been begun with."""

    folder: Path
    recipe: dict[str, Any]
    watch: WatchSettings
    resume: bool = False
    allow_changes: bool = False


@dataclass
class Trainer:
    """A run that is set up: model, optimiser, plan. Not made directly: see `prepare`.

    `base` is the fingerprint of the embedder before it was trained.
    """

    embedder: Embedder
    mixture: Mixture
    settings: TrainingSettings
    stepper: Stepper
    optimizer: torch.optim.Optimizer
    num_trainable: int
    base: str
    averages: Averages | None = None
    table: TableRows | None = None
    heap: Heap | None = None
    num_truncated: int = 0

    @classmethod
    def prepare(cls, embedder: Embedder, mixture: Mixture, settings: TrainingSettings, loss: LossSettings) -> "Trainer":
        """Make what the tuning names trainable, spread it over the processes torchrun started, plan the memory.

        The embedder is trained in place. Raises ModelError where tuning or loss do not fit the backbone, or the weights
        are of half precision, in which small updates round to nothing.
        """
        model: Any = embedder.backbone
        if embedder.dtype not in (torch.float32, torch.float64):
            raise ModelError("training needs float32 weights; load the model with dtype='float32'")
        loss.check_fits(width(model))
        longest = embedder.contract.max_length
        if settings.max_length is not None and settings.max_length > longest:
            raise ModelError(
                f"training.max_length is {settings.max_length} and the model reads {longest} tokens; expected at most "
                f"{longest}: lower it, or raise model.max_length"
            )
        base = embedder.fingerprint
        if embedder.device.type == "cpu":
            keep_blocks() if is_small(model) else return_large_blocks()
            give_back_free()
        world = World.from_environment(embedder.device)
        torch.manual_seed(settings.seed)
        num_trainable = apply_tuning(
            model,
            pick_tuning(model, settings),
            lora_rank=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            freeze_table=freezes_table(model, settings),
        )
        if settings.gradient_checkpointing:
            use_gradient_checkpointing(model)
        model.train()
        sharded = settings.sharding == "full"
        budget = plan_budget(embedder, settings, mixture)
        if sharded:
            shard(model, world, settings.max_length or longest)
        torch.manual_seed(settings.seed + world.rank)  # dropout differs between processes
        stepper = Stepper(embedder, settings, loss, budget, world, sharded)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        averages = Averages(trained, settings.average) if settings.average else None
        optimizer = make_optimizer(model, settings)
        table = None if world.size > 1 else table_by_rows(model, optimizer, averages)
        heap = Heap() if embedder.device.type == "cpu" and not is_small(model) else None
        return cls(embedder, mixture, settings, stepper, optimizer, num_trainable, base, averages, table, heap)

    @property
    def model(self) -> Any:
        """The backbone."""
        return self.embedder.backbone

    @property
    def num_steps(self) -> int:
        """Optimiser steps in all. Raises DataError for a stream without `max_steps`: nobody knows its length."""
        most = self.settings.max_steps
        if self.mixture.streams and most is not None:
            return most
        planned = max(1, round(self.settings.epochs * self.mixture.batches_per_epoch))
        return min(planned, most or planned)

    @property
    def names(self) -> dict[int, str]:
        """Names of the trained parameters by `id`."""
        return {id(p): name for name, p in self.model.named_parameters() if p.requires_grad}

    def run(
        self,
        log: Log | None = None,
        keeping: Keeping | None = None,
        evaluate: HeldOut | None = None,
        *,
        show_progress: bool = False,
    ) -> History:
        """Every step that is left; scores before the first and after the last, and on the way as `keeping` has it.

        Sharded weights are not scored, which is told as a ScoresWarning.
        SIGTERM and Ctrl-C end the run after the step they fall into, with a checkpoint where `keeping` is given.
        Raises ModelError where the loss or its gradient is not finite, naming the batch; checkpoints stay as they are.
        """
        log, world, total = log or Log(), self.stepper.world, self.num_steps
        if evaluate and self.stepper.sharded:
            evaluate = None
            if world.leads:
                warnings.warn(_UNSCORED, ScoresWarning, stacklevel=2)
        every = keeping.watch.evaluate_every if keeping else 0
        first = self._resume(keeping) if keeping else 0
        log.start(first, evaluate.measure() if evaluate else None)
        done, stopped = first, False
        shown = show_progress and world.leads
        company = Company() if world.size == 1 else None  # the other processes of a run are no strangers
        with _stop_signals() as stop, progress_bar("training", total, completed=first, enabled=shown) as advance:
            if evaluate and first == 0:
                advance(0, note="scoring the base")
                log.add_scores(0, self._scores(evaluate))
                stopped = world.largest(float(stop.is_set())) > 0
            while done < total and not stopped:
                step = self.step(done)
                log.add_step(step)
                if company is not None and company.joins(step.seconds, step.num_tokens):
                    warnings.warn(_BUSY, BusyWarning, stacklevel=2)
                done += 1
                advance(note=_note(log, self.stepper.budget.batch_tokens))
                stopped = world.largest(float(stop.is_set())) > 0
                if keeping and (stopped or done % keeping.watch.checkpoint_every == 0 or done == total):
                    self.save(keeping, done)
                if evaluate and every and done % every == 0 and done < total and not stopped:
                    advance(0, note="scoring")
                    log.add_scores(done, self._scores(evaluate))
        self.model.eval()
        if self.heap:
            give_back_free()
        if self.table:
            self.table.close()
        if self.averages:
            self.averages.swap()
        self.embedder.weights_changed()
        if evaluate and done == total and not any(step == total for step, _ in log.scores):
            with progress_bar("scoring", None, enabled=shown):
                log.add_scores(total, evaluate.scores(self.embedder))
        frozen = freezes_table(self.model, self.settings)
        stopped = done < total
        return History(log.steps, self.num_trainable, self.num_truncated, log.scores, log.measure, stopped, frozen)

    def step(self, number: int) -> StepRecord:
        """Batch `number` (from 0): loss, gradients, clipping and one optimiser step."""
        started = time.perf_counter()
        rate = self.settings.learning_rate * rate_factor(number, self.num_steps, self.settings)
        set_rate(self.optimizer, rate)
        batch = self.mixture.batch(number)
        self.optimizer.zero_grad(set_to_none=True)
        outcome = self.stepper.accumulate(batch)
        clipped = [p for group in self.optimizer.param_groups for p in group["params"]]
        read = self.table.gradient() if self.table else None
        if read:
            clipped.append(nn.Parameter(read[1], requires_grad=False))
            clipped[-1].grad = read[1]
        norm = torch.nn.utils.clip_grad_norm_(clipped, self.settings.max_grad_norm)
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # pyright: ignore[reportAttributeAccessIssue]
        if not (math.isfinite(outcome.loss) and math.isfinite(norm)):
            raise ModelError(_not_finite(batch, outcome.loss, norm))
        self.optimizer.step()
        if self.table and read:
            self.table.step(*read)
        if self.averages:
            self.averages.update(number)
        if self.heap:
            self.heap.after(outcome.num_tokens)
        self.num_truncated += outcome.num_truncated
        seconds = time.perf_counter() - started
        names = ", ".join(dict.fromkeys(traits.name for traits in batch.traits))
        return StepRecord(number + 1, outcome.loss, rate, norm, len(batch.pairs), outcome.num_tokens, seconds, names)

    def save(self, keeping: Keeping, step: int) -> None:
        """Write the checkpoint after `step` steps, and delete those beyond the last `keep`."""
        state = checkpoint.State(
            step=step,
            budget=[self.stepper.budget.batch_tokens, self.stepper.budget.kept_tokens],
            memory_gb=self.settings.memory_gb,
            recipe=keeping.recipe,
            base=self.base,
            data=self.mixture.fingerprint,
            streams=self.mixture.state(),
            num_truncated=self.num_truncated,
        )
        world = self.stepper.world
        with self.table.settled() if self.table else contextlib.nullcontext({}) as rows:
            more = {**self._averaged, **rows}
            checkpoint.save(keeping.folder, state, self.optimizer, self.names, world, more)
        if world.leads:
            checkpoint.prune(keeping.folder, keeping.watch.keep)

    def _resume(self, keeping: Keeping) -> int:
        """Go back to the last checkpoint; the number of steps it has behind it, 0 where there is none."""
        found = checkpoint.checkpoints(keeping.folder)
        if not found or not keeping.resume:
            return 0
        state = checkpoint.read_state(found[-1])
        changed = checkpoint.changes(state, keeping.recipe, self.base, self.mixture.fingerprint)
        if not keeping.allow_changes:
            checkpoint.check_same(changed, keeping.folder)
        rows = checkpoint.load(found[-1], self.optimizer, self.names, self.stepper.world, self._averaged, changed)
        if self.table:
            self.table.load(rows)
        if state.memory_gb == self.settings.memory_gb and not changed:
            self.stepper.budget.batch_tokens, self.stepper.budget.kept_tokens = state.budget
        self.mixture.restore(state.streams)
        self.num_truncated = state.num_truncated
        return state.step

    @property
    def _averaged(self) -> dict[str, torch.Tensor]:
        return self.averages.tensors if self.averages else {}

    def _scores(self, evaluate: HeldOut) -> dict[str, float]:
        random, was_training = torch.get_rng_state(), self.model.training
        self.model.eval()
        with (
            self.table.settled() if self.table else contextlib.nullcontext(),
            self.averages.in_place() if self.averages else contextlib.nullcontext(),
        ):
            self.embedder.weights_changed()
            scores = evaluate.scores(self.embedder)
        self.model.train(was_training)
        torch.set_rng_state(random)
        return scores


def _not_finite(batch: Batch, loss: float, norm: float) -> str:
    names = ", ".join(dict.fromkeys(traits.name for traits in batch.traits))
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    return (
        f"{what} in batch {batch.number} ({names}; it begins {batch.pairs[0].anchor[:60]!r}); nothing was written "
        f"since the last checkpoint: lower learning_rate, raise warmup, or look at that batch"
    )


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


def _note(log: Log, batch_tokens: int) -> str:
    steps = log.steps[-20:]
    seconds = sum(step.seconds for step in steps)
    loss = sum(step.loss for step in steps) / len(steps)
    pairs, tokens = (sum(getattr(step, name) for step in steps) / seconds for name in ("num_pairs", "num_tokens"))
    said = f"loss {loss:.3f}  {pairs:,.0f} pairs/s  {tokens:,.0f} tokens/s  micro-batch {batch_tokens:,}"
    scores = log.scores[-1][1] if log.scores else {}
    return "  ".join([said, *(f"{name} {value:.3f}" for name, value in scores.items())])


def use_gradient_checkpointing(backbone: Any) -> None:
    """Let the backbone keep each layer's input alone and compute the layer again in the backward pass."""
    if hasattr(backbone, "checkpointing"):
        backbone.checkpointing = True
        return
    model = backbone.model  # the method has a new name in later releases of transformers 5
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


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


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let every part move at `rate` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
