"""Parallel texts before and after finetuning on one plane (the paper's figure 4), and a number for it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.evaluation.statistics import Interval, paired_bootstrap
from udever.report.figure import Data, Figure, Section
from udever.report.parallel import Parallel
from udever.report.style import LINE, QUIET, canvas, drawing, series, to_svg
from udever.search.projection import Method, project
from udever.storage import atomic_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ID, TITLE = "plane", "Parallel texts before and after finetuning"
NEIGHBOURS = ("translation", "own language", "another language")
RESULT_FILE, TABLE_FILE = "results.json", f"{ID}.csv"
_BLOCK = 1024
_MOST_SHOWN = 90


@dataclass(frozen=True)
class Side:
    """One model's view: `points` [languages * rows, 2], language by language; `nearest` indexes `NEIGHBOURS`."""

    model: str
    points: NDArray[np.float32]
    nearest: NDArray[np.int64]

    def shares(self) -> dict[str, float]:
        """The share of texts with each kind of nearest neighbour."""
        return {name: float((self.nearest == number).mean()) for number, name in enumerate(NEIGHBOURS)}


@dataclass(frozen=True)
class Plane:
    """Both views of the same texts."""

    languages: tuple[str, ...]
    texts: tuple[str, ...]
    method: str
    before: Side
    after: Side

    @property
    def num_rows(self) -> int:
        """How many texts there are in each language."""
        return len(self.texts) // len(self.languages)

    def gain(self) -> Interval:
        """By how much the share of texts beside their translation rose, resampling rows."""
        sides = [
            (side.nearest == 0).reshape(len(self.languages), -1).mean(axis=0) for side in (self.after, self.before)
        ]
        return paired_bootstrap(sides[0], sides[1])

    def sentence(self) -> str:
        """The number, in words."""
        before, after, gain = self.before.shares(), self.after.shares(), self.gain()
        translation, own, _ = NEIGHBOURS
        rise, low, high = (f"{100 * value:+.1f}" for value in (gain.difference, gain.low, gain.high))
        return (
            f"The nearest neighbour of a text is its translation for {before[translation]:.1%} of texts before and "
            f"{after[translation]:.1%} after ({rise} points, 95 % interval {low} to {high}); it is another text of the "
            f"same language for {before[own]:.1%} before and {after[own]:.1%} after."
        )


def nearest_kinds(embeddings: NDArray[np.float32], num_rows: int) -> NDArray[np.int64]:
    """For each text, which of `NEIGHBOURS` its nearest other text by cosine is; ties to the lower index.

    `embeddings` are language by language, `num_rows` each, rows in the same order.
    """
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise DataError("an embedding is not finite or has no length; check the model")
    unit = (embeddings / norms).astype(np.float32)
    kinds = np.empty(len(unit), dtype=np.int64)
    for start in range(0, len(unit), _BLOCK):
        indices = np.arange(start, min(start + _BLOCK, len(unit)))
        similarity = unit[indices] @ unit.T
        similarity[indices - start, indices] = -np.inf
        nearest = similarity.argmax(axis=1)
        same_row, same_language = nearest % num_rows == indices % num_rows, nearest // num_rows == indices // num_rows
        kinds[indices] = np.where(same_row, 0, np.where(same_language, 1, 2))
    return kinds


def make_plane(
    parallel: Parallel,
    before: tuple[str, NDArray[np.float32]],
    after: tuple[str, NDArray[np.float32]],
    *,
    method: Method = "pca",
    seed: int = 0,
) -> Plane:
    """The plane from two models' names and embeddings, language by language in the order of `parallel`."""
    sides = [
        Side(name, project(embeddings, method=method, seed=seed), nearest_kinds(embeddings, parallel.num_rows))
        for name, embeddings in (before, after)
    ]
    texts = tuple(text for language in parallel.languages for text in parallel.texts[language])
    return Plane(parallel.languages, texts, method, *sides)


def write_plane(plane: Plane, folder: str | Path, *, num_repeated: int = 0) -> None:
    """Write the figure (SVG, HTML, CSV) and `results.json` into `folder`; `udever report --plane` reads it."""
    content = {
        "before": plane.before.model,
        "after": plane.after.model,
        "method": plane.method,
        "languages": plane.languages,
        "num_rows": plane.num_rows,
        "num_repeated_rows_left_out": num_repeated,
        "nearest_neighbour_before": plane.before.shares(),
        "nearest_neighbour_after": plane.after.shares(),
        "gain": {name: getattr(plane.gain(), name) for name in ("difference", "low", "high", "confidence")},
    }
    figure = draw(plane)
    with atomic_folder(folder, "plane") as temporary:
        figure.write(temporary)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (temporary / RESULT_FILE).write_text(text + "\n", encoding="utf-8")


def read_plane(folder: str | Path) -> Plane:
    """Read what `write_plane` wrote. Raises DataError for anything else."""
    import csv

    folder = Path(folder)
    try:
        content = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        languages = tuple(content["languages"])
        with (folder / TABLE_FILE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        sides: list[Side] = []
        for when in ("before", "after"):
            own = [row for row in rows if row["when"] == when]
            points = np.array([(row["x"], row["y"]) for row in own], dtype=np.float32)
            nearest = np.array([NEIGHBOURS.index(row["nearest_neighbour"]) for row in own])
            if len(own) != len(languages) * content["num_rows"]:
                raise DataError(f"{folder / TABLE_FILE} has {len(own)} rows for {when!r}; write it again")
            sides.append(Side(content[when], points, nearest))
        texts = tuple(row["text"] for row in rows if row["when"] == "after")
        return Plane(languages, texts, content["method"], *sides)
    except (OSError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{folder} is no folder of `udever plane`: {error}; run that command again") from error
    except ValueError as error:
        raise DataError(f"{folder} is no folder of `udever plane`: {error}") from error


def section(plane: Plane | None) -> Section:
    """The section of the report."""
    if plane is None:
        reason = (
            "It needs a model before and after finetuning: run "
            "`udever plane TEXTS --before BEFORE -m AFTER -o FOLDER` and give FOLDER with --plane."
        )
        return Section(ID, TITLE, missing=reason)
    return Section(ID, TITLE, [plane.sentence()], [draw(plane)])


def draw(plane: Plane) -> Figure:
    """Two panels, coloured by language; a line joins a text with its translations."""
    rows: list[tuple[Any, ...]] = []
    for when, side in (("before", plane.before), ("after", plane.after)):
        for index, text in enumerate(plane.texts):
            language, row = plane.languages[index // plane.num_rows], index % plane.num_rows
            x, y = (float(value) for value in side.points[index])
            rows.append((when, side.model, row, language, x, y, NEIGHBOURS[side.nearest[index]], text))
    data = Data(("when", "model", "row", "language", "x", "y", "nearest_neighbour", "text"), rows)
    caption = (
        f"{plane.num_rows} texts in {len(plane.languages)} languages, each side on its own plane by "
        f"{plane.method.upper()}; a line joins a text with its translations. "
        "The number is taken in the full space, not on the plane."
    )
    return Figure(ID, TITLE, caption, plane.sentence(), _svg(plane), data)


def _svg(plane: Plane) -> str:
    from matplotlib.lines import Line2D

    titles: dict[str, str] = {}
    with drawing():
        figure = canvas(8.6, 4.7)
        left, right = figure.subplots(1, 2)
        for axes, side, when in ((left, plane.before, "before"), (right, plane.after, "after")):
            _panel(axes, plane, side, when, titles)
        looks = [series(number) for number in range(len(plane.languages))]
        handles = [
            Line2D([], [], color=look.color, marker=look.marker, ls="none", label=language)
            for language, look in zip(plane.languages, looks, strict=True)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)))
        return to_svg(figure, ID, titles)


def _panel(axes: "Axes", plane: Plane, side: Side, when: str, titles: dict[str, str]) -> None:
    from matplotlib.collections import LineCollection

    points = side.points.reshape(len(plane.languages), plane.num_rows, 2)
    lines = [points[:, row] for row in range(plane.num_rows)]
    axes.add_collection(LineCollection(lines, colors=QUIET, linewidths=0.6, alpha=0.45, gid=f"lines-{when}"))
    for index, text in enumerate(plane.texts):
        number = index // plane.num_rows
        look = series(number)
        gid = f"point-{when}-{index}"
        titles[gid] = f"{plane.languages[number]}: {_cut(text)}"
        x, y = side.points[index]
        axes.plot([x], [y], look.marker, color=look.color, ms=4, alpha=0.85, gid=gid)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(LINE)
    name = side.model if len(side.model) <= 36 else "…" + side.model[-35:]
    axes.set_title(f"{when}: {name}", fontsize=9)
    axes.set_xlabel(f"{side.shares()[NEIGHBOURS[0]]:.0%} nearest to their translation", color=QUIET)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"
