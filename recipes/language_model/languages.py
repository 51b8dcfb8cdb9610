"""What a language gains from pairs, by how well the backbone reads it: `udever bits` beside the arms' scores.

    python languages.py --runs runs/arms [--base gemma3-270m]

Takes the segments and the results that arms.py wrote to RUNS. How well the backbone reads a language is the bits that
it takes for its segments over those for their English originals. Writes RUNS/languages.md, with rank correlations, and
RUNS/languages.svg. Bits that were measured are not measured again.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from arms import subsets_of
from development import LANGUAGES
from english import udever

SHOWN = {"in_en": ("English pairs", "#0067a3"), "in_all": ("pairs in twelve languages", "#d9a05f")}
TASK = "segments"


def main() -> None:
    """Measure, tabulate and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/arms"), help="what arms.py wrote")
    parser.add_argument("--base", default="gemma3-270m")
    options = parser.parse_args()
    segments = options.runs / "tasks" / TASK
    if not segments.is_dir():
        parser.error(f"{options.runs} holds no {TASK}; run arms.py with the arms {' '.join(SHOWN)} first")
    read = cost(segments, options.runs, options.base)
    scores = {key: found for key in SHOWN if (found := subsets_of(options.runs / "results" / f"local__{key}-0", TASK))}
    (options.runs / "languages.md").write_text(tabulate(read, scores))
    draw(read, scores, options.runs / "languages.svg")
    print((options.runs / "languages.md").read_text())


def cost(segments: Path, output: Path, base: str) -> dict[str, float]:
    """For each language the bits of its segments over those of their English originals."""
    sides = {"sentence1": "own", "sentence2": "originals"}
    bits: dict[str, dict[str, float]] = {}
    for column, name in sides.items():
        texts = {
            LANGUAGES[path.name[:2]]: pq.read_table(path)[column] for path in sorted(segments.glob("*-en.parquet"))
        }
        table, found = output / f"{name}.parquet", output / f"{name}.csv"
        pq.write_table(pa.table(texts), table)
        if not found.is_file():
            udever("bits", str(table), "-m", base, "-o", str(found))
        with found.open(encoding="utf-8") as file:
            bits[name] = {row["language"]: float(row["bits_per_text"]) for row in csv.DictReader(file)}
    return {
        language: bits["own"][code] / bits["originals"][code]
        for language, code in LANGUAGES.items()
        if code in bits["own"]
    }


def rank_correlation(first: list[float], second: list[float]) -> float:
    """Spearman's, ties by their mean rank."""
    ranks = [[float(np.mean(np.flatnonzero(np.sort(x) == value))) for value in x] for x in (first, second)]
    return float(np.corrcoef(np.array(ranks))[0, 1])


def tabulate(read: dict[str, float], scores: dict[str, dict[str, float]]) -> str:
    """A row for each language, the best read first; behind it the correlations with scores and with the gain."""
    order = sorted(read, key=lambda language: read[language])
    names = [SHOWN[key][0] for key in scores]
    lines = [f"| language | bits over English | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    columns = {key: [found[f"{language}-en"] for language in order] for key, found in scores.items()}
    for place, language in enumerate(order):
        cells = " | ".join(f"{column[place]:.2f}" for column in columns.values())
        lines.append(f"| {language} | {read[language]:.2f} | {cells} |")
    axis = [read[language] for language in order]
    lines.append("")
    lines += [
        f"Rank correlation with {SHOWN[key][0]}: {rank_correlation(axis, column):.2f}"
        for key, column in columns.items()
    ]
    if len(columns) == len(SHOWN):
        gain = [more - less for less, more in zip(*columns.values(), strict=True)]
        lines.append(f"Rank correlation with the gain: {rank_correlation(axis, gain):.2f}")
    return "\n".join(lines) + "\n"


def draw(read: dict[str, float], scores: dict[str, dict[str, float]], path: Path) -> None:
    """Scores over bits, a point for each language."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    settings: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9, "axes.edgecolor": "#d5d5d0"}
    settings["svg.hashsalt"] = "u"
    with mpl.rc_context(settings):
        figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
        for key, found in scores.items():
            label, colour = SHOWN[key]
            points = [(read[language], found[f"{language}-en"]) for language in read]
            axes.scatter(*zip(*points, strict=True), s=18, color=colour, label=label, linewidths=0)
        lowest = scores[next(iter(scores))]
        for language, bits in read.items():
            axes.annotate(language, (bits, lowest[f"{language}-en"]), (4, -9), textcoords="offset points", fontsize=7)
        axes.set_xlabel("bits of a language's segments over those of their English originals, before finetuning")
        axes.set_ylabel("F1, segments to English")
        axes.grid(color="#d5d5d0", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(frameon=False, loc="lower left")
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)


if __name__ == "__main__":
    main()
