"""Whether parallel texts lie by language or by what they say: nearest neighbours, and a picture of two dimensions.

    python neighbours.py --tasks runs/arms/tasks --output runs/neighbours "as it comes=gemma3-270m" \
        "English pairs=runs/arms/plain-0"

Takes the task `segments` of development.py: segments of a course in nineteen languages and their English originals.
For each model given as NAME=MODEL, writes to OUTPUT/neighbours.md how often the nearest other text of a segment says
the same in another language, and how often it is a text of its own language; and OUTPUT/neighbours.svg.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

SHOWN = {"en": "#0067a3", "de": "#d9a05f", "zh": "#00735a", "ar": "#b0413e", "hi": "#7a5195", "sw": "#8a8a85"}
"""Languages of the picture and their colours."""
MOST_SHOWN = 40


@dataclass(frozen=True)
class Segments:
    """Texts with their languages and the English original of each, which stands for what it says."""

    texts: list[str]
    languages: NDArray[np.str_]
    originals: NDArray[np.str_]


def main() -> None:
    """Embed the segments with every model, count and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--tasks", type=Path, required=True, help="the folder that development.py wrote")
    parser.add_argument("--output", type=Path, default=Path("runs/neighbours"))
    options = parser.parse_args()
    if not (options.tasks / "segments").is_dir():
        parser.error(f"{options.tasks} holds no segments; expected the tasks that arms.py or english.py wrote")
    given = dict(model.partition("=")[::2] for model in options.models)
    if not all(given.values()):
        parser.error(f"models are {options.models}; expected NAME=MODEL each")
    options.output.mkdir(parents=True, exist_ok=True)
    segments = read(options.tasks / "segments")
    vectors = {name: _embed(model, segments.texts) for name, model in given.items()}
    table = tabulate({name: shares(found, segments) for name, found in vectors.items()})
    (options.output / "neighbours.md").write_text(table)
    draw(vectors, segments, options.output / "neighbours.svg")
    print(table)


def read(folder: Path) -> Segments:
    """Every segment and every English original once."""
    rows = [
        (row["sentence1"], path.name.partition("-")[0], row["sentence2"])
        for path in sorted(folder.glob("*-en.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    rows += [(original, "en", original) for original in dict.fromkeys(row[2] for row in rows)]
    texts, languages, originals = zip(*rows, strict=True)
    return Segments(list(texts), np.array(languages), np.array(originals))


def _embed(model: str, texts: list[str]) -> NDArray[np.float32]:
    from udever import Embedder

    return Embedder.load(model).encode(texts)


def shares(vectors: NDArray[np.float32], segments: Segments) -> tuple[float, float]:
    """Of segments that are not English, how many have a translation as their nearest other text; how many a text of
    their own language.
    """
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argmax(1)
    asked = segments.languages != "en"
    own = (segments.languages == segments.languages[nearest])[asked]
    same = (segments.originals == segments.originals[nearest])[asked]
    return float(np.mean(same & ~own)), float(np.mean(own))


def tabulate(found: dict[str, tuple[float, float]]) -> str:
    """A row for each model."""
    lines = ["| | nearest is a translation | nearest is of the same language |", "|---|---|---|"]
    lines += [f"| {name} | {translated:.2f} | {own:.2f} |" for name, (translated, own) in found.items()]
    return "\n".join(lines) + "\n"


def draw(vectors: dict[str, NDArray[np.float32]], segments: Segments, path: Path) -> None:
    """The first two principal components of some languages' texts, a panel for each model."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.size": 9,
        "svg.hashsalt": "u",
        "axes.edgecolor": "#d5d5d0",
    }
    with mpl.rc_context(settings):
        size = (4.2 * len(vectors), 4.2)
        figure, panels = plt.subplots(1, len(vectors), figsize=size, layout="constrained", squeeze=False)
        for axes, (name, found) in zip(panels[0], vectors.items(), strict=True):
            chosen = {language: np.flatnonzero(segments.languages == language)[:MOST_SHOWN] for language in SHOWN}
            of_all = found[np.concatenate(list(chosen.values()))]
            centre = of_all.mean(0)
            _, _, axis = np.linalg.svd(of_all - centre, full_matrices=False)
            for language, rows in chosen.items():
                x, y = ((found[rows] - centre) @ axis[:2].T).T
                axes.scatter(x, y, s=12, color=SHOWN[language], label=language, linewidths=0)
            axes.set_title(name, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(SHOWN), frameon=False)
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)


if __name__ == "__main__":
    main()
