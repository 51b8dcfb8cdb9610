"""Scores of a model as this harness finds them, beside those that were published for it: a table in Markdown.

    udever eval MODEL --name sentence-transformers/all-MiniLM-L6-v2 --dtype float32 --data DATA/eval \\
        --overrides bench/evaluate_overrides.json -o RESULTS
    python bench/agreement.py RESULTS PUBLISHED.json [--all]

PUBLISHED.json is {"org__model": {public task: {split: {subset: main score}}}}. A result belongs to the public task
that its task.json names under `mteb_name`, or that `PAIRED` below gives it, and each of its splits and subsets to the
published one of the same name ("default" where there is one subset). `DIFFERS` says of which results the data are known
not to be the public task's, and how; those are shown and not counted.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from udever.evaluate.store import ModelScores, Score, read_scores, read_task

TOLERANCE = 0.005
PAIRED = {"sts12": "STS12", "cosqa": "CosQA", "bucc_zh_en": "BUCC.v2"}
DIFFERS: dict[str, str] = {
    "sts12": "2,358 of the 3,108 pairs: the part MSRvid is missing",
    "cosqa": "the development set: 313 queries over 552 functions; the public task has 500 over 6,267",
    "bucc_zh_en": "the development pool of the shared task; the public task is made from the training pool",
    "xnli": "all 3,340 pairs of the test; the public task draws 2,048 rows and drops the neutral ones of them",
}


@dataclass(frozen=True)
class Line:
    """One score beside the published one."""

    score: Score
    public: str
    published: float

    @property
    def difference(self) -> float:
        """Ours minus the published."""
        return self.score.value - self.published


def lines_of(model: ModelScores, published: dict[str, Any]) -> tuple[list[Line], list[Score]]:
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
            found.append(Line(score, str(public), value))
    return found, alone


def main() -> None:
    """Print the table, then the worst rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("published", type=Path)
    parser.add_argument("--all", action="store_true", help="a row for every subset, not one for a task and split")
    options = parser.parse_args()
    published = json.loads(options.published.read_text())
    for model in read_scores([options.results]):
        scores = published.get(model.name.replace("/", "__"))
        if scores is None:
            continue
        lines, alone = lines_of(model, scores)
        print(f"\n{model.name}, revision {model.revision}\n")
        show(lines, every=options.all)
        missing = sorted({f"{score.task} ({score.split})" for score in alone})
        print(f"\nWithout a published score: {', '.join(missing)}" if missing else "")


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
            f"| {within} of {len(group)} | {DIFFERS.get(key[0], 'the same')} |"
        )
    same = [line for line in lines if line.score.task not in DIFFERS]
    outside = [line for line in same if abs(line.difference) > TOLERANCE]
    print(f"\n{len(same) - len(outside)} of {len(same)} scores over the same data are within {TOLERANCE}.")
    for line in sorted(outside, key=lambda line: -abs(line.difference))[:20]:
        place = f"{line.public}, {line.score.split}, {line.score.subset}"
        print(f"* {place}: {line.score.value:.5f}, published {line.published:.5f}")


if __name__ == "__main__":
    main()
