"""The headline's table and picture from results of `udever eval`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

INK, QUIET, LINE = "#1b1b1a", "#595955", "#d5d5d0"
COLOURS = ("#0067a3", "#5aa3d0", "#b9d8ec", "#b3b3ad", "#d9a05f", "#00735a")


@dataclass(frozen=True)
class Measure:
    """A column: which task, split and subsets its mean is over."""

    name: str
    task: str
    split: str
    keep: Callable[[str], bool]


@dataclass(frozen=True)
class Mean:
    """A score over subsets, and the mean of their 95 % intervals: as wide as if all erred together."""

    value: float
    low: float
    high: float
    num_subsets: int


MEASURES = (
    Measure("XQuAD, English", "xquad_r", "validation", lambda s: s == "en"),
    Measure("XQuAD, 10 other languages", "xquad_r", "validation", lambda s: s != "en"),
    Measure("the same over English passages", "xquad_across", "validation", lambda _: True),
    Measure("STS benchmark, English", "stsb_multi", "test", lambda s: s == "en"),
    Measure("STS benchmark, 10 other languages", "stsb_multi", "test", lambda s: s != "en"),
    Measure("Tatoeba, 36 languages to English", "tatoeba", "test", lambda _: True),
    Measure("code search, questions in 4 languages", "universal_code_search", "test", lambda _: True),
)


def write_headline(results: Path, output: Path, models: Sequence[str]) -> None:
    """`table.md`, `table.json` and `english.svg` in `output`, a row for each model that has results."""
    found = {name: rows for name in models if (rows := _means(results, name))}
    (output / "table.json").write_text(
        json.dumps({name: {k: asdict(v) for k, v in row.items()} for name, row in found.items()}, indent=2)
    )
    table = _table(found)
    (output / "table.md").write_text(table)
    _draw(found, output / "english.svg")
    print(table)


def _means(results: Path, name: str) -> dict[str, Mean]:
    """Every measure that the newest results of a model allow."""
    found = [path for path in results.glob("*/*/model_meta.json") if _name(path) == name]
    folders = [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime)]
    row = {}
    for measure in MEASURES:
        for folder in reversed(folders):
            path = folder / f"{measure.task}.json"
            if path.is_file() and (mean := _mean(json.loads(path.read_text()), measure)):
                row[measure.name] = mean
                break
    return row


def _name(meta: Path) -> str:
    """The name that a model was scored under; without an organisation the results call it local."""
    return json.loads(meta.read_text())["name"].removeprefix("local/")


def _mean(content: dict[str, Any], measure: Measure) -> Mean | None:
    scores = content["scores"].get(measure.split) or next(iter(content["scores"].values()))
    kept = [score for score in scores if measure.keep(score["hf_subset"])]
    if not kept:
        return None

    def over(key: str) -> float:
        return sum(score.get(key) or score["main_score"] for score in kept) / len(kept)

    return Mean(over("main_score"), over("main_score_low"), over("main_score_high"), len(kept))


def _table(found: dict[str, dict[str, Mean]]) -> str:
    names = [measure.name for measure in MEASURES]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for model, row in found.items():
        cells = [f"{row[n].value:.3f} ± {(row[n].high - row[n].low) / 2:.3f}" if n in row else "" for n in names]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _draw(found: dict[str, dict[str, Mean]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    settings: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9, "text.color": INK, "axes.edgecolor": LINE}
    settings["svg.hashsalt"] = "u"
    with mpl.rc_context(settings):
        figure, axes = plt.subplots(figsize=(8.6, 6.0), layout="constrained")
        height = 0.8 / len(found)
        for number, (model, row) in enumerate(found.items()):
            for place, measure in enumerate(MEASURES):
                if measure.name not in row:
                    continue
                mean, y = row[measure.name], place + (number - (len(found) - 1) / 2) * height
                axes.barh(y, mean.value, height * 0.92, color=COLOURS[number], label=model if place == 0 else None)
                axes.plot([mean.low, mean.high], [y, y], color=INK, linewidth=0.8)
                axes.text(mean.high + 0.008, y, f"{mean.value:.2f}", va="center", fontsize=7, color=QUIET)
        axes.set_yticks(range(len(MEASURES)), [measure.name for measure in MEASURES])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.05)
        axes.tick_params(length=0)
        axes.grid(axis="x", color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel("nDCG@10, Spearman's correlation, F1, nDCG@10; lines are 95 % intervals over items")
        figure.legend(loc="outside upper center", ncols=(len(found) + 1) // 2, frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)
