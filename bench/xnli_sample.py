"""The sample of XNLI that mteb scores, drawn from the whole test set: a task folder.

    python bench/xnli_sample.py DATA/eval/xnli OUTPUT/xnli

mteb draws 2,048 of the 5,010 rows of each language, evenly over the three labels and with a fixed seed, and only then
leaves the neutral ones out. Which rows it takes of a label depends on how many rows each label has and on nothing else,
so its own code finds them here too, where the neutral rows are missing and the others stand in their order.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq

SEED = 42
LABELS = {1: "entailment", 0: "contradiction"}
"""Of a folder's rows; mteb's own labels are 0, 1 (neutral) and 2 in this order."""


@cache  # every language has as many
def drawn(num_each: int) -> dict[str, set[int]]:
    """Which rows of each label mteb takes, counted within the label, where there are `num_each` of each."""
    import datasets
    from mteb.abstasks import AbsTask

    names = ["entailment", "neutral", "contradiction"]
    rows = {"label": [number for number in range(3) for _ in range(num_each)], "row": list(range(num_each)) * 3}
    whole = datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows)})
    whole = whole.cast_column("label", datasets.ClassLabel(names=names))
    sample = AbsTask.stratified_subsampling(whole, seed=SEED, splits=["test"])["test"]
    found: dict[str, set[int]] = {name: set() for name in names}
    for label, row in zip(sample["label"], sample["row"], strict=True):
        found[names[label]].add(row)
    return found


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    spec = json.loads((options.source / "task.json").read_text())
    sizes: dict[str, int] = {}
    for path in sorted(options.source.glob("*.parquet")):
        table = pq.read_table(path)
        labels = table["label"].to_pylist()
        rows = {name: [at for at, label in enumerate(labels) if label == value] for value, name in LABELS.items()}
        (num_each,) = {len(places) for places in rows.values()}
        chosen = drawn(num_each)
        kept = sorted(places[row] for name, places in rows.items() for row in chosen[name])
        pq.write_table(table.take(kept), options.output / path.name)
        sizes[path.stem] = len(kept)
    (options.output / "task.json").write_text(json.dumps({**spec, "splits": {"test": sizes}}, indent=2) + "\n")
    print(f"{options.output}: {sum(sizes.values()):,} pairs in {len(sizes)} languages")


if __name__ == "__main__":
    main()
