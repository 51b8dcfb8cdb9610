"""What a change of precision costs on the universal suite."""

from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from udever.errors import ContractError, DataError
from udever.evaluation.evaluate import evaluate

if TYPE_CHECKING:
    from udever.embedder import Embedder

MOST_LOST = 0.005
"""Of the mean over the tasks, on the scale of 0 to 1: half a point."""


def score_suite(embedder: "Embedder", *, show_progress: bool = False) -> dict[str, float]:
    """The mean main score of each task of the universal suite. Raises DataError where a task cannot be scored."""
    with TemporaryDirectory() as scratch:
        (outcome,) = evaluate(embedder, results=scratch, show_progress=show_progress)
        if outcome.failed:
            task, reason = next(iter(outcome.failed.items()))
            raise DataError(f"{task} cannot be scored: {reason}; leave the suite out (--no-suite)")
        return {task: sum(score.value for score in scores) / len(scores) for task, scores in outcome.scores.items()}


def mean(scores: Mapping[str, float]) -> float:
    """Of all tasks, each alike."""
    return sum(scores.values()) / len(scores)


def check_loss(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """Raise ContractError, naming the task that loses most, where the mean falls by more than `MOST_LOST`."""
    lost = mean(before) - mean(after)
    if not lost <= MOST_LOST:  # so that NaN fails too
        worst = max(before, key=lambda task: before[task] - after[task])
        raise ContractError(
            f"{name} loses {100 * lost:.2f} points of the suite's mean in int8 ({100 * mean(before):.2f} before), most "
            f"in {worst} ({before[worst]:.3f} to {after[worst]:.3f}); expected at most {100 * MOST_LOST:.1f}: use "
            f"another dtype, or --no-suite"
        )
