"""What a run tells: steps and scores, as lines of JSON, to trackers, in a figure and in a part of the card."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from udever.pairs.mixture import DatasetSummary
from udever.storage import atomic_file
from udever.training.recipe import RECIPE_FILE, Recipe
from udever.training.trackers import Tracker, opened

LOG_FILE = "log.jsonl"
FIGURE = "training.svg"


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


class Log:
    """Steps and scores so far; from `open`, also a line each in `log.jsonl`, in which a resumed run goes on."""

    def __init__(self, folder: Path | None = None, trackers: Sequence[Tracker] = ()) -> None:
        self._path = None if folder is None else folder / LOG_FILE
        self._trackers = trackers
        self._file: Any = None
        self.steps: list[Step] = []
        self.scores: list[tuple[int, dict[str, float]]] = []

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

    def start(self, step: int) -> None:
        """Go on behind `step`: what an earlier run logged beyond it is done again and leaves the log."""
        if self._path is None:
            return
        lines = _read(self._path) if step else []
        kept = [line for line in lines if line["step"] <= step]
        for line in kept:
            self._remember(line)
        with atomic_file(self._path) as temporary:
            temporary.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
        self._file = self._path.open("a", encoding="utf-8")

    def add_step(self, step: Step) -> None:
        """Note a step."""
        values = asdict(step)
        self._write({"step": values.pop("number"), **values})

    def add_scores(self, step: int, scores: dict[str, float]) -> None:
        """Note scores on held-out rows."""
        self._write({"step": step, "scores": scores})

    def _remember(self, line: dict[str, Any]) -> None:
        if "scores" in line:
            self.scores.append((line["step"], line["scores"]))
        else:
            self.steps.append(Step(number=line["step"], **{k: v for k, v in line.items() if k != "step"}))

    def _write(self, line: dict[str, Any]) -> None:
        self._remember(line)
        if self._file is not None:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        group = "scores" if "scores" in line else "train"
        numbers = {
            f"{group}/{name}": value
            for name, value in line.get("scores", line).items()
            if isinstance(value, int | float) and name != "step"
        }
        for tracker in self._trackers:
            tracker.write(numbers, line["step"])


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; one that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 260, 52, 624, 26, 226


def draw(history: History) -> str:
    """The loss by step, and the held-out scores, as an SVG."""
    curves = {"loss": [(step.number, step.loss) for step in history.steps]}
    for step, scores in history.scores:
        for name, value in scores.items():
            curves.setdefault(name, []).append((step, value))
    panels = [_panel(name, points) for name, points in curves.items() if points]
    moved = "".join(f'<g transform="translate(0 {n * _HEIGHT})">{panel}</g>' for n, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT * max(1, len(panels))}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{moved}</svg>\n'
    )


def _panel(name: str, points: list[tuple[int, float]]) -> str:
    low, high = min(value for _, value in points), max(value for _, value in points)
    first, last = points[0][0], points[-1][0]
    across, up = (_RIGHT - _LEFT) / ((last - first) or 1), (_BOTTOM - _TOP) / ((high - low) or 1.0)
    shown = [*points[: -1 : max(1, len(points) // 600)], points[-1]]
    places = [(f"{_LEFT + across * (x - first):.1f}", f"{_BOTTOM - up * (y - low):.1f}") for x, y in shown]
    line = " ".join(f"{x},{y}" for x, y in places)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="#0b5fa5"/>' for x, y in places if len(places) <= 40)
    return (
        f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="#666"/>'
        f'<polyline points="{line}" fill="none" stroke="#0b5fa5" stroke-width="1.5"/>{dots}'
        f'<text x="{_LEFT - 6}" y="{_BOTTOM}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT}" y="{_BOTTOM + 16}">{first:,}</text>'
        f'<text x="{_RIGHT}" y="{_BOTTOM + 16}" text-anchor="end">step {last:,}</text>'
        f'<text x="{_LEFT + 8}" y="{_TOP}" font-weight="bold">{escape(name)}</text>'
    )


def notes(recipe: Recipe, history: History, datasets: Sequence[DatasetSummary]) -> str:
    """The part of the model card that says how it was trained, as Markdown."""
    last = history.steps[-20:]
    loss = sum(step.loss for step in last) / max(1, len(last))
    data = "".join(
        f"| {d.name} | {'' if d.num_pairs is None else format(d.num_pairs, ',')} | {d.share:.3f} | "
        f"{', '.join(d.languages) or '-'} |\n"
        for d in datasets
    )
    scores = "".join(
        f"| {step} | {', '.join(f'{name} {value:.4f}' for name, value in found.items())} |\n"
        for step, found in history.scores
    )
    table = f"\n| step | held-out rows |\n|---|---|\n{scores}" if scores else ""
    return f"""
## Training

{len(history.steps):,} steps of {recipe.training.batch_size}, {history.num_trainable:,} parameters moved; mean loss of
the last {len(last)} steps {loss:.3f}; {history.num_truncated:,} texts were cut at {recipe.model.max_length} tokens.
The resolved recipe is in `{RECIPE_FILE}`.

| data | pairs | share | languages |
|---|---|---|---|
{data}{table}
![loss and scores]({FIGURE})
"""
