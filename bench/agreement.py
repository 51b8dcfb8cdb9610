"""Scores of a model as this harness finds them, beside those that were published for it: a table in Markdown.

    udever eval -m MODEL --name sentence-transformers/all-MiniLM-L6-v2 --dtype float32 --data DATA/eval \\
        --overrides bench/evaluate_overrides.json -o RESULTS
    python bench/agreement.py RESULTS PUBLISHED.json --data DATA/eval [--all]

PUBLISHED.json is {"org__model": {public task: {split: {subset: main score}}}}. A result belongs to the public task
that its task.json names under `mteb_name`, or that `PAIRED` below gives it, and each of its splits and subsets to the
published one of the same name ("default" where there is one subset).

Whether the data are the public task's is counted, not assumed: mteb carries counts of every public task (samples,
characters, unique pairs, documents, queries), and its own code counts the same of the data here. The column "data"
says which differ. A row whose samples (and documents and queries) are all within 1 % of the public task's is held to
agree within 0.005; any other is shown and not held to it.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from udever.evaluation.results import ModelScores, Score, read_scores, read_task
from udever.evaluation.tasks import find_tasks

TOLERANCE = 0.005
WHOLE = 0.01
PAIRED = {"sts12": "STS12", "cosqa": "CosQA", "bucc_zh_en": "BUCC.v2"}
COUNTS = {
    "num_samples": "samples",
    "unique_pairs": "unique pairs",
    "num_queries": "queries",
    "num_documents": "documents",
    "number_of_characters": "characters",
}


class Counts:
    """What mteb counts of the tasks in a folder, and of the public ones."""

    def __init__(self, data: Path, overrides: Path | None) -> None:
        replaced = json.loads(overrides.read_text()) if overrides else {}
        self._tasks = {task.name: task for task in find_tasks(data, replaced)}
        self._loaded: dict[str, Any] = {}

    def _here(self, name: str) -> Any:
        from udever.evaluation.mteb_task import as_mteb_task

        if name not in self._loaded:
            self._loaded = {name: as_mteb_task(self._tasks[name])}  # the last one alone: a corpus may be large
            self._loaded[name].load_data()
        return self._loaded[name]

    def compare(self, score: Score, public: str) -> "Data | None":
        """How the data differ from the public task's; None where mteb has no counts of it."""
        import mteb

        stated = (mteb.get_task(public).metadata.descriptive_stats or {}).get(score.split)
        by_subset = (stated or {}).get("hf_subset_descriptive_stats")
        if by_subset is not None:
            stated = by_subset.get(score.subset) or by_subset.get("default")
        if stated is None:
            return None
        task = self._here(score.task)
        counted = task._calculate_descriptive_statistics_from_split(score.split, hf_subset=score.subset)
        both = [key for key in COUNTS if isinstance(stated.get(key), int) and isinstance(counted.get(key), int)]
        differing = [key for key in both if counted[key] != stated[key]]
        sizes = [key for key in both if key not in ("number_of_characters", "unique_pairs")]
        return Data(
            whole=all(abs(counted[key] - stated[key]) <= WHOLE * stated[key] for key in sizes),
            text="; ".join(f"{COUNTS[key]} {counted[key]:,} for {stated[key]:,}" for key in differing),
        )


@dataclass(frozen=True)
class Data:
    """Whether a subset is the public task's as a whole, and which counts differ."""

    whole: bool
    text: str


@dataclass(frozen=True)
class Line:
    """One score beside the published one."""

    score: Score
    public: str
    published: float
    data: Data | None

    @property
    def difference(self) -> float:
        """Ours minus the published."""
        return self.score.value - self.published


def lines_of(model: ModelScores, published: dict[str, Any], counts: Counts) -> tuple[list[Line], list[Score]]:
    """The scores that have a published one, and those that have none."""
    found: list[Line] = []
    alone: list[Score] = []
    assert model.folder is not None
    for score in model.scores:
        content = read_task(model.folder, score.task) or {}
        public = PAIRED.get(score.task) or (content.get("udever") or {}).get("mteb_name")
        split = published.get(str(public), {}).get(score.split, {})
        value = split.get(score.subset)
        if value is None and sum(s.task == score.task and s.split == score.split for s in model.scores) == 1:
            value = split.get("default")
        if value is None:
            alone.append(score)
        else:
            found.append(Line(score, str(public), value, counts.compare(score, str(public))))
    return found, alone


def main() -> None:
    """Print the table, then the worst rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("published", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the folder of tasks the results were made from")
    parser.add_argument("--overrides", type=Path, default=Path(__file__).with_name("evaluate_overrides.json"))
    parser.add_argument("--all", action="store_true", help="a row for every subset, not one for a task and split")
    options = parser.parse_args()
    import datasets

    datasets.disable_progress_bars()
    published = json.loads(options.published.read_text())
    counts = Counts(options.data, options.overrides)
    for model in read_scores([options.results]):
        scores = published.get(model.name.replace("/", "__"))
        if scores is None:
            continue
        lines, alone = lines_of(model, scores, counts)
        print(f"\n{model.name}, revision {model.revision}\n")
        show(lines, every=options.all)
        missing = sorted({f"{score.task} ({score.split})" for score in alone})
        print(f"\nWithout a published score: {', '.join(missing)}" if missing else "")


def said(group: list[Line]) -> str:
    """What the column "data" says of one row."""
    if any(line.data is None for line in group):
        return "mteb has no counts"
    differing = [line for line in group if line.data and line.data.text]
    if not differing:
        return "the same counts"
    part = [line for line in differing if line.data and not line.data.whole]
    example = (part or differing)[0]
    assert example.data
    text = (
        example.data.text
        if len(group) == 1
        else f"{len(differing)} differ; {example.score.subset}: {example.data.text}"
    )
    return f"not whole: {text}" if part else text


def show(lines: list[Line], *, every: bool) -> None:
    """One row for a task and split, or for every subset."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        key = (line.score.task, line.score.split, *([line.score.subset] if every else []))
        groups.setdefault(key, []).append(line)
    print("| task | split | subsets | published | here | largest difference | within 0.005 | data |")
    print("|---|---|---|---|---|---|---|---|")
    for key, group in groups.items():
        worst = max(group, key=lambda line: abs(line.difference))
        within = sum(abs(line.difference) <= TOLERANCE for line in group)
        here, there = (
            sum(values) / len(group) for values in zip(*((g.score.value, g.published) for g in group), strict=True)
        )
        where = f" ({worst.score.subset})" if len(group) > 1 else ""
        subsets = group[0].score.subset if len(group) == 1 else str(len(group))
        print(
            f"| {group[0].public} | {key[1]} | {subsets} | {there:.4f} | {here:.4f} | {worst.difference:+.4f}{where} "
            f"| {within} of {len(group)} | {said(group)} |"
        )
    same = [line for line in lines if line.data is not None and line.data.whole]
    outside = [line for line in same if abs(line.difference) > TOLERANCE]
    print(f"\n{len(same) - len(outside)} of {len(same)} scores over the public task's data are within {TOLERANCE}.")
    for line in sorted(outside, key=lambda line: -abs(line.difference))[:20]:
        place = f"{line.public}, {line.score.split}, {line.score.subset}"
        print(f"* {place}: {line.score.value:.5f}, published {line.published:.5f}")


if __name__ == "__main__":
    main()
