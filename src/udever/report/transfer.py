"""Train language by test language, as a heat map (the paper's figure 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from udever.report.figure import Data, Figure, Section
from udever.report.runs import Run, common_keys, language_score, languages_of
from udever.report.style import INK, QUIET, canvas, drawing, to_svg
from udever.report.universal import alike, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ID, TITLE = "transfer", "Train language and test language"


@dataclass(frozen=True)
class Transfer:
    """Runs that differ in train language alone: `values[train][test]`, None where not measured.

    `title` says what the runs share; `num_runs[train]` is how many runs a row is the mean of.
    """

    title: str
    train_languages: tuple[str, ...]
    test_languages: tuple[str, ...]
    values: Sequence[Sequence[float | None]]
    num_runs: tuple[int, ...]

    @property
    def gains(self) -> list[list[float | None]]:
        """Each value minus the mean of its column. Columns are of different tasks, so only rows can be compared."""
        columns = [[value for value in column if value is not None] for column in zip(*self.values, strict=True)]
        means = [sum(column) / len(column) if column else 0.0 for column in columns]
        return [
            [None if value is None else value - mean for value, mean in zip(line, means, strict=True)]
            for line in self.values
        ]


def transfers(runs: Sequence[Run]) -> list[Transfer]:
    """A map for each size, tuning and kind of data with at least two train languages, over what its runs share."""
    maps = [_transfer(in_words(shared), group) for shared, group in alike(runs, "train_language").items()]
    return [found for found in maps if len(found.train_languages) > 1 and found.test_languages]


def _transfer(title: str, runs: Sequence[Run]) -> Transfer:
    keys = common_keys(runs)
    rows: dict[str, list[Run]] = {}
    for run in runs:
        rows.setdefault(run.label.train_language or "", []).append(run)
    tests = [language for language in languages_of(runs, keys) if language_score(runs[0], language, keys)]
    # A language that was trained on and not tested stays as a column, so that the hole is seen.
    tests += [language for language in rows if language not in tests and "-" in language and "+" not in language]
    order = sorted(rows, key=lambda language: (tests.index(language) if language in tests else len(tests), language))
    values: list[list[float | None]] = []
    for language in order:
        means = [[language_score(run, test, keys) for run in rows[language]] for test in tests]
        values.append([_average([mean.value for mean in column if mean is not None]) for column in means])
    return Transfer(title, tuple(order), tuple(tests), values, tuple(len(rows[language]) for language in order))


def _average(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def section(runs: Sequence[Run]) -> Section:
    """The section of the report."""
    maps = transfers(runs)
    if not maps:
        reason = (
            "It needs two or more runs with different train languages and everything else alike. The languages come "
            "from the training.json beside a model, or from --labels (train_language)."
        )
        return Section(ID, TITLE, missing=reason)
    text = (
        "Each row is a model trained on pairs in one language, each column its monolingual score in a test language "
        "(programming languages: from questions to code), over what all models of the map have. Models of a map are "
        "alike in family, size, tuning and kind of pairs; what else differs, such as the number of steps, is not known "
        "to it.",
    )
    return Section(ID, TITLE, text, [draw(maps)])


def draw(maps: Sequence[Transfer]) -> Figure:
    """One map below another, every cell with its number."""
    rows = [
        (found.title, train, test, value, number)
        for found in maps
        for train, number, line in zip(found.train_languages, found.num_runs, found.values, strict=True)
        for test, value in zip(found.test_languages, line, strict=True)
    ]
    data = Data(("runs", "train_language", "test_language", "score", "num_runs"), rows)
    present = [(value, train, test) for _, train, test, value, _ in rows if value is not None]
    best, worst = max(present), min(present)
    said = (
        f"Scores from {worst[0]:.3f} (trained on {worst[1]}, tested on {worst[2]}) to {best[0]:.3f} "
        f"(trained on {best[1]}, tested on {best[2]})."
    )
    caption = (
        "Numbers are scores. Colours compare the rows of a column, since another column is of other tasks: the "
        f"lightest stands for {_span(maps):.3f} above the mean of its column, the darkest for as much below. A frame "
        "marks a test in a language that was trained on."
    )
    if len(present) < len(rows):
        caption += " Hatched: not measured."
    return Figure(ID, TITLE, caption, said, _svg(maps), data)


def _span(maps: Sequence[Transfer]) -> float:
    """The largest gain or loss of all maps: what the ends of the colours stand for."""
    return max(abs(gain) for found in maps for line in found.gains for gain in line if gain is not None)


def _svg(maps: Sequence[Transfer]) -> str:
    columns = max(len(found.test_languages) for found in maps)
    heights = [0.34 * len(found.train_languages) for found in maps]
    titles: dict[str, str] = {}
    with drawing():
        figure = canvas(max(4.5, 1.4 + 0.37 * columns), sum(heights) + 1.35 * len(maps))
        grid: Any = figure.subplots(len(maps), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes, found in zip(grid[:, 0], maps, strict=True):
            _map(axes, found, _span(maps) or 1.0, titles)
        return to_svg(figure, ID, titles)


def _map(axes: "Axes", found: Transfer, span: float, titles: dict[str, str]) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    gains = found.gains
    for row, (train, line) in enumerate(zip(found.train_languages, found.values, strict=True)):
        for column, (test, value) in enumerate(zip(found.test_languages, line, strict=True)):
            gain = gains[row][column]
            gid = f"cell-{len(titles)}"
            titles[gid] = f"trained on {train}, tested on {test}: " + (
                "not measured" if value is None else f"{value:.3f} ({gain:+.3f})"
            )
            corner = (column - 0.48, row - 0.48)
            if value is None or gain is None:
                axes.add_patch(Rectangle(corner, 0.96, 0.96, fc="none", ec=QUIET, hatch="////", lw=0, gid=gid))
                continue
            place = 0.5 + gain / span / 2
            axes.add_patch(Rectangle(corner, 0.96, 0.96, fc=colormaps["cividis"](place), lw=0, gid=gid))
            axes.text(column, row, _short(value), ha="center", va="center", fontsize=7.5,
                      color="#000000" if place > 0.5 else "#ffffff")  # fmt: skip
    for row, train in enumerate(found.train_languages):
        for column in _tested(train, found):
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fc="none", ec=INK, lw=2))
    axes.set_xlim(-0.5, len(found.test_languages) - 0.5)
    axes.set_ylim(len(found.train_languages) - 0.5, -0.5)
    axes.set_xticks(
        range(len(found.test_languages)), found.test_languages, rotation=55, ha="right", rotation_mode="anchor"
    )
    trained = zip(found.train_languages, found.num_runs, strict=True)
    rows = [f"{name} ({number} runs)" if number > 1 else name for name, number in trained]
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylabel("trained on", color=QUIET)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(found.title or "all runs", fontsize=9)


def _tested(train: str, found: Transfer) -> list[int]:
    """The columns of the languages of a row."""
    return [found.test_languages.index(one) for one in train.split("+") if one in found.test_languages]


def _short(value: float) -> str:
    """0.71 as .71, to fit the cell."""
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
