"""`udever plan`: what a run will do and take, found out beforehand on its own data and model."""

import time
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch

from udever.allocator import give_back_free
from udever.model.packing import plan_batches
from udever.pairs.mixture import DatasetSummary
from udever.processors import OthersLoad
from udever.progress import duration
from udever.training.batches import batch_texts, tokenize
from udever.training.grad_cache import BatchOutcome
from udever.training.loop import Trainer
from udever.training.memory import bytes_per_token, taken_bytes
from udever.training.recipe import Recipe
from udever.training.run import open_recipe
from udever.training.tuning import freezes_table, pick_tuning
from udever.training.validation import check_held_out

_SAMPLE_BATCHES = 5
_BUSY = 0.1
"""The share of the processors from which on others are told."""
_TIMED, _TIMED_S = 3, 10.0


@dataclass(frozen=True)
class Plan:
    """A run before it runs. Times and memory are those of one process; nothing was trained."""

    tuning: str
    num_parameters: int
    num_trainable: int
    num_steps: int
    batch_size: int
    datasets: list[DatasetSummary]
    tokens_per_step: float
    longest_text_tokens: int
    truncated_share: float
    repeated_share: float
    """Share of a batch's texts that stood in it before: each distinct text is embedded once."""
    batch_tokens: int
    micro_batches: int
    run_again: int
    """Micro-batches run a second time in the backward pass, because their activations do not stay in memory."""
    bytes_per_token: float
    base_bytes: int
    """The process with model and data open, before the first step; the weights alone where the system is silent."""
    optimizer_bytes: int
    """Gradients and the optimiser's two moments."""
    activations_bytes: float
    loading_bytes: int
    """The most the process took until the first step."""
    seconds_per_step: float
    others_share: float | None = None
    """What other processes took of the processors while this was found out; None where the system does not tell."""

    @property
    def peak_bytes(self) -> float:
        """The most the process takes of the memory, as the system counts it."""
        return max(self.loading_bytes, self.base_bytes + self.optimizer_bytes + self.activations_bytes)

    @property
    def seconds(self) -> float:
        """The whole run."""
        return self.seconds_per_step * self.num_steps

    def lines(self) -> list[str]:
        """The plan in words, a line each."""
        out = [
            f"{self.num_steps:,} steps of {self.batch_size:,} pairs; {self.tuning} moves {self.num_trainable:,} of "
            f"{self.num_parameters:,} parameters",
            f"{self.tokens_per_step:,.0f} tokens a step (longest text {self.longest_text_tokens:,}, "
            f"{self.truncated_share:.1%} of the texts cut, {self.repeated_share:.1%} of a batch's texts repeated and "
            f"embedded once)",
            f"{self.micro_batches} micro-batches of at most {self.batch_tokens:,} tokens, {self.run_again} of them "
            f"run twice",
            f"{self.peak_bytes / 1e9:.2f} GB at the peak: process and weights {self.base_bytes / 1e9:.2f}, "
            f"gradients and optimiser {self.optimizer_bytes / 1e9:.2f}, activations {self.activations_bytes / 1e9:.2f} "
            f"({self.bytes_per_token / 1e3:,.0f} KB a token)",
            f"{self.seconds_per_step:.2f} s a step, {duration(self.seconds)} in all, on this machine{self._busy()}",
        ]
        for d in self.datasets:
            pairs = "a stream" if d.num_pairs is None else f"{d.num_pairs:,} {'texts' if d.of_texts else 'pairs'}"
            anchors, positives = d.duplicate_anchors, d.duplicate_positives
            repeated = ""
            if d.of_texts:
                repeated = f", {anchors:.1%} of them repeated"
            elif anchors is not None and positives is not None:
                repeated = f", {anchors:.1%} of the anchors and {positives:.1%} of the positives repeated"
            left = f", {d.num_left_out:,} rows in no batch" if d.num_left_out else ""
            left += f", {d.num_empty:,} rows without anchor or positive left out" if d.num_empty else ""
            left += f", {d.num_held_out:,} rows held out" if d.num_held_out else ""
            left += f", {d.num_repeating:,} that repeat those left out" if d.num_repeating else ""
            left += f", {d.num_untaught:,} texts without a teacher's vector left out" if d.num_untaught else ""
            out.append(f"  {d.name}: {pairs}, {d.share:.1%} of the batches of {d.batch_size:,}{repeated}{left}")
        return out

    def _busy(self) -> str:
        if self.others_share is None or self.others_share < _BUSY:
            return ""
        return f", which was busy: other processes took {self.others_share:.0%} of its processors; alone it is faster"


def plan(recipe: Recipe) -> Plan:
    """Open everything a run would open, measure memory, time whole steps without moving a weight.

    Raises what the run itself would raise at its start.
    """
    others = OthersLoad()
    embedder, mixture = open_recipe(recipe)
    check_held_out(recipe)
    model: Any = embedder.backbone
    num_parameters = sum(p.numel() for p in model.parameters())
    tuning = pick_tuning(model, recipe.training)
    tuning += " without the embedding table" if freezes_table(model, recipe.training) else ""
    trainer = Trainer.prepare(embedder, mixture, recipe.training, recipe.loss)
    budget = trainer.stepper.budget
    batches = [batch_texts(mixture.batch(i)) for i in range(min(_SAMPLE_BATCHES, trainer.num_steps))]
    tokens = [tokenize(embedder, texts.texts, recipe.training.max_length) for texts in batches]
    sides = [len(t.anchors) + len(t.positives) + len(t.ids.own_ids) for t in batches]
    before = _taken(trainer)
    outcome, seconds_per_token = _time(trainer)
    per_token = bytes_per_token(embedder, recipe.training, mixture)
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    in_step = mean(sum(t.lengths) for t in tokens)
    micro = plan_batches(tokens[0].lengths, budget.batch_tokens)
    kept = min(in_step, budget.kept_tokens)
    again = 0 if outcome.kept_all else sum(1 for _ in micro) - int(kept // budget.batch_tokens)
    result = Plan(
        tuning=tuning,
        num_parameters=num_parameters,
        num_trainable=trainer.num_trainable,
        num_steps=trainer.num_steps,
        batch_size=recipe.training.batch_size,
        datasets=mixture.describe(),
        tokens_per_step=in_step,
        longest_text_tokens=max(max(t.lengths) for t in tokens),
        truncated_share=sum(t.num_truncated for t in tokens) / sum(len(t.ids) for t in tokens),
        repeated_share=1 - sum(len(t.ids) for t in tokens) / sum(sides),
        batch_tokens=budget.batch_tokens,
        micro_batches=len(micro),
        run_again=max(0, again),
        bytes_per_token=per_token,
        base_bytes=before[0],
        optimizer_bytes=3 * gradients,
        activations_bytes=_activations(trainer, before, gradients, budget.peak_bytes(in_step, per_token)),
        loading_bytes=before[1],
        seconds_per_step=seconds_per_token * in_step,
        others_share=others.share(),
    )
    torch.manual_seed(recipe.training.seed)
    return result


def _taken(trainer: Trainer) -> tuple[int, int]:
    """What the process takes before its first step and took at most until then; else the weights."""
    if trainer.embedder.device.type == "cpu":
        give_back_free()
    weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    return taken_bytes(trainer.embedder.device) or (weights, weights)


def _activations(trainer: Trainer, before: tuple[int, int], gradients: int, estimate: float) -> float:
    """What the steps just run took beside their gradients, kernels and holes in the heap included.

    The estimate where the system does not tell, or loading took more than the steps.
    """
    after = taken_bytes(trainer.embedder.device)
    if after is None or after[1] <= before[1]:
        return estimate
    return max(0, after[1] - before[0] - gradients)


def _time(trainer: Trainer) -> tuple[BatchOutcome, float]:
    """What the first batch gives, and the seconds that a token of the fastest step takes: the first warms memory up.

    At least two batches where there are as many: the heap that one leaves does not fit the next. Batches differ in
    length, so steps are compared by the token.
    """
    found: list[float] = []
    by_token: list[float] = []
    first: BatchOutcome | None = None
    while True:
        trainer.optimizer.zero_grad(set_to_none=True)
        started = time.perf_counter()
        outcome = trainer.stepper.accumulate(trainer.mixture.batch(len(found) % trainer.num_steps))
        found.append(time.perf_counter() - started)
        by_token.append(found[-1] / outcome.num_tokens)
        first = first or outcome
        if len(found) == _TIMED or (len(found) > 1 and sum(found) > _TIMED_S):
            return first, min(by_token)
