"""What a run tells while it runs: steps and scores, as lines of JSON and to trackers."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from udever.storage import atomic_file
from udever.training.recipe import Recipe
from udever.training.trackers import Tracker, opened

LOG_FILE = "log.jsonl"
MAIN_METRIC = "mrr@10"


@dataclass(frozen=True)
class StepRecord:
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
class Measure:
    """What scores on held-out rows are to be compared with: how many texts were searched, and BM25's scores.

    `candidates` says in words what those texts are, `digest` names queries and texts: scores with another are of
    something else.
    """

    num_queries: int
    num_candidates: int
    candidates: str
    bm25: dict[str, float]
    digest: str = ""


class ScoresWarning(UserWarning):
    """Scores on held-out rows are left out."""


@dataclass(frozen=True)
class History:
    """What happened: every step of this run, the scores on the way, how many parameters moved, how many texts were cut.

    `scores` are those of held-out rows by the number of steps done, 0 for the base; `measure` is what they are compared
    with. `stopped`: a signal ended the run before its last step. `table_frozen`: the embedding table stayed as it was.
    """

    steps: list[StepRecord]
    num_trainable: int
    num_truncated: int
    scores: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    measure: Measure | None = None
    stopped: bool = False
    table_frozen: bool = False

    @property
    def moved(self) -> str:
        """How many parameters moved, in words."""
        return f"{self.num_trainable:,} parameters moved" + (", the embedding table not" if self.table_frozen else "")

    @property
    def end(self) -> dict[str, float] | None:
        """The scores after the last step; None where that was not scored."""
        last = self.steps[-1].number if self.steps else 0
        return self.scores[-1][1] if self.scores and self.scores[-1][0] == last else None

    @property
    def outcome(self) -> str | None:
        """Where the run began and ended, beside BM25, in a sentence; None where the end was not scored."""
        end = self.end
        if self.measure is None or end is None:
            return None
        first, start = self.scores[0]
        among = f"{self.measure.num_queries:,} held-out queries among {self.measure.num_candidates:,} candidates"
        known = [("BM25", self.measure.bm25[MAIN_METRIC])]
        known += [("the start", start[MAIN_METRIC])] if first == 0 else []
        said = ", ".join([*(f"{name} {value:.3f}" for name, value in known), f"the end {end[MAIN_METRIC]:.3f}"])
        below = [name for name, value in known if end[MAIN_METRIC] < value]
        verdict = f": the run ended below {' and below '.join(below)}" if below else ""
        return f"MRR@10 of {among} ({self.measure.candidates}): {said}{verdict}"


class Log:
    """Steps and scores so far; from `open`, also a line each in `log.jsonl`, in which a resumed run goes on."""

    def __init__(self, folder: Path | None = None, trackers: Sequence[Tracker] = ()) -> None:
        self._path = None if folder is None else folder / LOG_FILE
        self._trackers = trackers
        self._file: Any = None
        self.steps: list[StepRecord] = []
        self.scores: list[tuple[int, dict[str, float]]] = []
        self.measure: Measure | None = None

    @classmethod
    @contextmanager
    def open(cls, folder: Path, recipe: Recipe, *, enabled: bool) -> Iterator["Log"]:
        """A log in `folder` (made if missing), for the recipe's trackers too; writes nothing where not `enabled`.

        Raises MissingExtra for a tracker that is not installed.
        """
        if not enabled:
            yield cls()
            return
        folder.mkdir(parents=True, exist_ok=True)
        run = Path(recipe.output.folder).name
        with opened(recipe.watch.trackers, folder, run, recipe.model_dump(mode="json")) as trackers:
            log = cls(folder, trackers)
            try:
                yield log
            finally:
                if log._file is not None:
                    log._file.close()

    def start(self, step: int, measure: Measure | None = None) -> None:
        """Go on behind `step`, with scores that are to be compared with `measure`; None where there will be none.

        What an earlier run logged beyond `step` is done again and leaves the log. So do its scores where those to come
        are measured otherwise, which is told as a ScoresWarning.
        """
        lines = _read(self._path) if self._path is not None and step else []
        kept = _measured_by(measure, [line for line in lines if line["step"] <= step])
        for line in kept:
            self._remember(line)
        if self._path is not None:
            with atomic_file(self._path) as temporary:
                temporary.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
            self._file = self._path.open("a", encoding="utf-8")
        if measure is not None and self.measure is None:
            self._write({"step": 0, "measure": asdict(measure)})

    def add_step(self, step: StepRecord) -> None:
        """Note a step."""
        values = asdict(step)
        self._write({"step": values.pop("number"), **values})

    def add_scores(self, step: int, scores: dict[str, float]) -> None:
        """Note scores on held-out rows."""
        self._write({"step": step, "scores": scores})

    def _remember(self, line: dict[str, Any]) -> None:
        if "measure" in line:
            self.measure = Measure(**line["measure"])
        elif "scores" in line:
            self.scores.append((line["step"], line["scores"]))
        else:
            self.steps.append(StepRecord(number=line["step"], **{k: v for k, v in line.items() if k != "step"}))

    def _write(self, line: dict[str, Any]) -> None:
        self._remember(line)
        if self._file is not None:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        if "measure" in line:
            return
        group = "scores" if "scores" in line else "train"
        numbers = {
            f"{group}/{name}": value
            for name, value in line.get("scores", line).items()
            if isinstance(value, int | float) and name != "step"
        }
        for tracker in self._trackers:
            tracker.write(numbers, line["step"])


def _measured_by(measure: Measure | None, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`lines` without the scores, and what they are compared with, where that is not `measure`."""
    if measure is None or [Measure(**line["measure"]) for line in lines if "measure" in line] == [measure]:
        return lines
    scores = sum("scores" in line for line in lines)
    if scores:
        warnings.warn(
            f"the earlier scores ({scores}) leave the log: held-out rows, what they search or the loss were changed; "
            f"those to come do not compare with them",
            ScoresWarning,
            stacklevel=2,
        )
    return [line for line in lines if not line.keys() & {"measure", "scores"}]


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; one that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
