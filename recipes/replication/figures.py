"""Step 5: results.jsonl -> the figures, scores.csv and numbers.json of docs/replication.

    python figures.py [--output ../../docs/replication]

Figures 3, 4 and 5 of the paper are drawn by the package's own analyses, from the same scores.
"""

import argparse
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from arms import Arm, recipe_of
from common import LANGUAGES, TRAIN, WORK
from score import encoder, parallel_texts
from table import (
    MEASURES,
    UNSEEN,
    gains,
    measures,
    numbers,
    over_seeds,
    read_percent,
    read_results,
    seeds_of,
    tatoeba,
)

from udever import Embedder
from udever.report import languages, plane, transfer
from udever.report.figure import Figure
from udever.report.parallel import Parallel
from udever.report.runs import Run, make_runs
from udever.report.shares import Shares
from udever.report.style import LINE, QUIET, canvas, drawing, series, to_svg, write_labels
from udever.evaluation.results import ModelScores, Score
from udever.training.run import load_base

SHOWN_ROWS = 60
CHOICES = {
    "pairs": {"both": "main-en", "symmetric": "main-en-symmetric", "asymmetric": "main-en-asymmetric"},
    "what moves": {"full": "main-en", "LoRA": "main-en-lora", "BitFit": "main-en-bitfit"},
    "markers": {"on": "main-en", "off": "main-en-eos"},
    "pooling": {"last token": "main-en", "weighted mean": "main-en-weighted_mean", "mean": "main-en-mean"},
    "attention": {
        "causal": "main-en",
        "bidirectional": "main-en-bidirectional",
        "bidirectional, mean": "main-en-bidirectional-mean",
    },
    "finetuned on": {"English": "main-en", "all languages": "main-all", "nothing": "main-before"},
    "backbone": {
        "2 layers of 256": "main-en",
        "1 layer of 128": "small-en",
        "with translations": "bilingual-en",
        "random weights": "random-en",
    },
}
"""What is compared in choices.svg: arms of each group differ in one thing."""


def runs_of(results: dict[str, Any], names: dict[str, str], without: str = "") -> list[Run]:
    """The arms as runs of the package's analyses; `names` are what figures call them. One type may be left out."""
    models = []
    for name, shown in names.items():
        arm = results[name]
        label = {"name": shown, "family": arm["arm"]["base"], "train_language": arm["arm"]["language"]}
        scores = tuple(
            Score(s["task"], s["type"], "test", "-".join(s["languages"]), tuple(s["languages"]), s["metric"],
                  s["value"], s["low"], s["high"], trained_on=False)
            for s in arm["scores"] if s["type"] != without
        )  # fmt: skip
        models.append(ModelScores(name, "1", arm["size"], None, {"udever": {"label": label}}, scores))
    return make_runs(models)


def share_figures(results: dict[str, Any]) -> list[Figure]:
    """The paper's figure 3: scores by language against the share.

    Without STS, whose scores are far higher and which some languages have and others do not.
    """
    names = {"main-before": "before", "main-en": "after English", "main-all": "after all languages"}
    runs = runs_of(results, {name: shown for name, shown in names.items() if name in results}, "STS")
    shares = Shares(read_percent(), "bytes of what the backbone read", complete=True)
    return languages.draw(languages.language_rows(runs, shares))


def transfer_figure(results: dict[str, Any]) -> Figure:
    """The paper's figure 5: language of training by language of test."""
    names = [name for name in (*(f"main-{code}" for code in TRAIN.values()), "main-all") if name in results]
    found = transfer.transfers(runs_of(results, dict(zip(names, names, strict=True))))
    # That the family is called main says nothing to a reader, so the map has the size alone.
    title = "2 layers of 256, symmetric and asymmetric pairs, full finetuning"
    return transfer.draw([replace(one, title=title) for one in found])


def plane_figure(results: dict[str, Any], base: str, set_name: str) -> Figure:
    """The paper's figure 4: parallel texts before and after English; no text is written into the figure."""
    texts = {name: own[:SHOWN_ROWS] for name, own in parallel_texts(150)[set_name].items()}
    before = load_base(recipe_of(Arm(**results[f"{base}-en"]["arm"]), 1).model)
    after = Embedder.load(WORK / "models" / f"{base}-en", dtype="float32")
    sides = [np.concatenate([encoder(e)(own, "symmetric") for own in texts.values()]) for e in (before, after)]
    numbered = {name: [f"text {row + 1}" for row in range(len(own))] for name, own in texts.items()}
    parallel = Parallel(tuple(numbered), numbered)
    return plane.draw(plane.make_plane(parallel, ("the backbone", sides[0]), ("finetuned on English", sides[1])))


def choices_svg(results: dict[str, Any]) -> str:
    """Every choice of the recipe: a row an arm, a panel a measure, the spread of main-en over its seeds behind."""
    shown = ("sts", "retrieval", "tatoeba", "cross", "code", "all")
    rows = [(group, label, name) for group, found in CHOICES.items() for label, name in found.items()]
    rows = [row for row in rows if row[2] in results]
    with drawing():
        figure = canvas(9.6, 0.9 + 0.27 * len(rows))
        grid: Any = figure.subplots(1, len(shown), sharey=True)
        for axes, measure in zip(grid, shown, strict=True):
            spread = [measures(results[name])[measure] for name in seeds_of(results, "main-en")]
            axes.axvspan(min(spread), max(spread), color=LINE, alpha=0.6, lw=0, zorder=0)
            for at, (group, _, name) in enumerate(rows):
                look = series(list(CHOICES).index(group))
                values = [measures(results[key])[measure] for key in seeds_of(results, name)]
                axes.plot([min(values), max(values)], [at, at], color=look.color, lw=1.6)
                axes.plot([np.mean(values)], [at], look.marker, color=look.color, ms=5.5)
                if at and rows[at - 1][0] != group:
                    axes.axhline(at - 0.5, color=QUIET, lw=0.7)
            axes.set_title(MEASURES[measure], fontsize=7.5)
            axes.tick_params(labelsize=7.5)
            axes.locator_params(axis="x", nbins=4)
            axes.grid(visible=False, axis="y")
            axes.margins(x=0.12)
        grid[0].set_yticks(range(len(rows)), [f"{group}: {label}" for group, label, _ in rows])
        grid[0].set_ylim(len(rows) - 0.5, -0.5)
        return to_svg(figure, "choices", {})


def gains_svg(results: dict[str, Any]) -> str:
    """What pairs in a language add over English pairs, against its share."""
    rows = gains(results)
    with drawing():
        figure = canvas(8.0, 3.6)
        grid: Any = figure.subplots(1, 2, sharey=True)
        named = []
        for axes, key, title, number in (
            (grid[0], "own", "trained on that language alone", 0),
            (grid[1], "all", "trained on all languages", 1),
        ):
            look = series(number)
            found = [row for row in rows if row[key] is not None and (key == "all" or row["language"] != "eng-Latn")]
            points = [(row["percent"], row[key] - row["english"], row["language"].split("-")[0]) for row in found]
            axes.axhline(0, color=QUIET, lw=1)
            axes.plot([x for x, _, _ in points], [y for _, y, _ in points], look.marker, color=look.color, ms=5.5)
            axes.set_xscale("log")
            axes.set_xticks([1, 2, 5, 10], ["1 %", "2 %", "5 %", "10 %"])
            axes.set_xticks([], [], minor=True)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("share in pre-training")
            axes.margins(0.12)
            named.append((axes, points))
        grid[0].set_ylabel("gain over English pairs")
        for axes, points in named:
            write_labels(axes, points)
        return to_svg(figure, "gains", {})


def sizes_svg(results: dict[str, Any]) -> str:
    """Tatoeba by language, both sizes after English, means over seeds."""
    order = sorted((x for x in LANGUAGES if x != "eng-Latn"), key=lambda x: (x in UNSEEN, -read_percent()[x]))
    with drawing():
        figure = canvas(8.6, 3.4)
        axes: Any = figure.subplots()
        for number, (name, shown) in enumerate((("small-en", "1 layer of 128"), ("main-en", "2 layers of 256"))):
            look = series(number)
            own = seeds_of(results, name)
            if not own:
                continue
            values = [np.mean([tatoeba(results[key], language) for key in own]) for language in order]
            axes.plot(range(len(order)), values, look.marker, color=look.color, ms=5.5, label=shown)
        first = sum(language not in UNSEEN for language in order) - 0.5
        axes.axvspan(first, len(order) - 0.5, color=LINE, alpha=0.5, lw=0, zorder=0)
        axes.text(len(order) - 0.6, 0.97, "not in pre-training", ha="right", va="top", fontsize=8,
                  transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_xticks(range(len(order)), [language.split("-")[0] for language in order], rotation=90, fontsize=8)
        axes.set_xlim(-0.7, len(order) - 0.5)
        axes.set_xlabel("largest share in pre-training first")
        axes.set_ylabel("Tatoeba")
        figure.legend(loc="outside upper left", ncols=2)
        return to_svg(figure, "sizes", {})


def write_scores(results: dict[str, Any], path: Path) -> None:
    """Every single score as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("arm", "task", "languages", "metric", "value", "low", "high", "num"))
        for name, arm in results.items():
            for s in arm["scores"]:
                row = [s["value"], s["low"], s["high"]]
                values = ["" if value is None else f"{value:.3f}" for value in row]
                writer.writerow((name, s["task"], " ".join(s["languages"]), s["metric"], *values, s["num"]))


def rounded(value: Any) -> Any:
    """Floats to four places, everything below alike; NaN to None."""
    if isinstance(value, dict):
        return {key: rounded(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(own) for own in value]
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    return value


def main() -> None:
    """Draw what there is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "docs" / "replication")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    results = read_results()
    header = '<?xml version="1.0" encoding="utf-8"?>\n'
    figures = {"shares": share_figures(results)[0].svg, "transfer": transfer_figure(results).svg}
    for base in ("main", "bilingual"):
        if (WORK / "models" / f"{base}-en").is_dir() and f"{base}-en" in results:
            figures[f"parallel-{base}"] = plane_figure(results, base, "Python documentation").svg
    figures |= {"choices": choices_svg(results), "gains": gains_svg(results), "sizes": sizes_svg(results)}
    for name, svg in figures.items():
        (output / f"{name}.svg").write_text(header + svg, encoding="utf-8")
    write_scores(results, output / "scores.csv")
    shutil.copyfile(WORK / "shares.csv", output / "shares.csv")
    content = json.dumps(rounded(numbers(results)), indent=1, allow_nan=False)
    (output / "numbers.json").write_text(content + "\n", encoding="utf-8")
    for name in results:
        if "seed" not in name:
            values = {m: over_seeds(results, name, m) for m in MEASURES}
            print(f"{name:28}", "  ".join(f"{m} {v:.3f}" + (f"±{h:.3f}" if h else "") for m, (v, h) in values.items()))


if __name__ == "__main__":
    main()
