"""How fast training is, and what memory it takes, beside sentence-transformers' CachedMultipleNegativesRankingLoss.

    python bench/train.py                              # shapes of bloom-560m, Qwen3-0.6B, gemma-3-270m; both precisions
    python bench/train.py --shapes qwen3 --precisions bfloat16 --rounds 1
    python bench/train.py --large 8192                     # what a contrastive batch of 8,192 takes
    python bench/train.py --processes                      # two gloo processes beside one with two threads
    python bench/train.py --loss 65536                     # the loss alone: memory and time

Both sides train all weights of the same model (random weights, its tokenizer made on the texts) from the same
folder on the same pairs in the same batches: in-batch negatives, temperature 0.05, AdamW with the same settings,
gradients clipped to norm 1, texts cut at 512 tokens. Lengths are lognormal, as in natural text. Tokenising
counts, loading does not. sentence-transformers' side is a bare loop, and takes the mini-batch of `--mini-batches`
that is fastest in a trial. bfloat16 is autocast over float32 weights on both sides. Every run has a process of its own;
its peak memory is counted over what it held once the model was loaded.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import common
import torch

from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.schema import Pair

TEMPERATURE, LEARNING_RATE, MAX_GRADIENT_NORM = 0.05, 1e-4, 1.0
MEAN_TOKENS = 50
SHAPES = {"bloom": common.bloom, "qwen3": common.qwen3, "gemma3": common.gemma3}
GOALS = {"bloom": 3.0, "qwen3": 2.5, "gemma3": 4.0}
MEMORY_GOAL = 0.6
GB = 1e9


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (at most so far) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def reset_peak() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def ours(folder: Path, pairs: Sequence[Pair], options: argparse.Namespace) -> dict[str, Any]:
    """This project's loop over the pairs: seconds, peak memory, losses."""
    from udever.embedder import Embedder
    from udever.pairs.mixture import Batch, Mixture
    from udever.training.loop import Trainer
    from udever.training.recipe import LossSettings, TrainingSettings

    class InOrder(Mixture):
        """The same batches, in the same order, as the other side has."""

        def batch(self, number: int) -> Batch:
            rows = batches(pairs, options.batch_size)[number]
            return Batch(number, tuple(rows), (super().batch(0).traits[0],) * len(rows))

    embedder = Embedder.load(folder, dtype="float32", max_length=common.MAX_TOKENS)
    settings = TrainingSettings(
        tuning="full",
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        max_grad_norm=MAX_GRADIENT_NORM,
        warmup=0.0,
        batch_size=options.batch_size,
        memory_gb=options.memory_gb,
        precision=options.precision,
    )
    mixture = InOrder.of_pairs(pairs, options.batch_size, 0)
    before = resident_bytes("VmRSS")
    reset_peak()
    trainer = Trainer.prepare(embedder, mixture, settings, LossSettings(temperature=TEMPERATURE))
    trainer.settings = settings
    start = time.perf_counter()
    losses = [trainer.step(number).loss for number in range(options.steps)]
    return measured(start, before, losses)


def theirs(folder: Path, pairs: Sequence[Pair], options: argparse.Namespace) -> dict[str, Any]:
    """sentence-transformers: tokenise, cached forward and backward, clip, step."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    model.train()
    before = resident_bytes("VmRSS")
    reset_peak()
    loss_of = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=options.mini_batch)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    losses = []
    start = time.perf_counter()
    for batch in batches(pairs, options.batch_size)[: options.steps]:
        columns = [[pair.anchor for pair in batch], [pair.positive for pair in batch]]
        with autocast(options.precision):
            loss = loss_of([model.preprocess(column) for column in columns], torch.arange(len(batch)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return measured(start, before, losses)


def measured(start: float, before: int, losses: list[float]) -> dict[str, Any]:
    """The outcome of one run."""
    return {"seconds": time.perf_counter() - start, "bytes": resident_bytes("VmHWM") - before, "losses": losses}


def batches(pairs: Sequence[Pair], batch_size: int) -> list[list[Pair]]:
    """The pairs in order, in full batches."""
    return [list(pairs[i : i + batch_size]) for i in range(0, len(pairs) - batch_size + 1, batch_size)]


def autocast(precision: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16, or nothing."""
    return torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()


def alone(side: str, folder: Path, options: argparse.Namespace, **changes: object) -> dict[str, Any]:
    """One run of `side` in a process of its own."""
    given = {**vars(options), **changes}
    names = ("batch_size", "steps", "threads", "memory_gb", "precision", "mini_batch")
    arguments = [part for name in names for part in (f"--{name.replace('_', '-')}", str(given[name]))]
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def best_mini_batch(folder: Path, options: argparse.Namespace, precision: str) -> int:
    """The mini-batch with which sentence-transformers takes a step fastest."""
    trials = {
        size: alone("theirs", folder, options, precision=precision, mini_batch=size, steps=1)["seconds"]
        for size in options.mini_batches
    }
    return min(trials, key=lambda size: trials[size])


def compare(shape: str, precision: str, folder: Path, options: argparse.Namespace) -> list[common.Row]:
    """Speed and memory of one shape in one precision."""
    mini_batch = best_mini_batch(folder, options, precision)
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        for side, found in runs.items():
            found.append(alone(side, folder, options, precision=precision, mini_batch=mini_batch))
    mine, other = runs["ours"], runs["theirs"]
    work = options.batch_size * options.steps
    apart = max(abs(a - b) for a, b in zip(mine[0]["losses"], other[0]["losses"], strict=True))
    what = f"{shape} {precision}, mini-batch {mini_batch}"
    speed = common.compare(
        f"{what}: speed",
        [run["seconds"] for run in mine],
        [run["seconds"] for run in other],
        work=work,
        unit="pairs/s",
        goal=GOALS[shape],
    )
    memory = [statistics.median(run["bytes"] for run in found) / GB for found in (mine, other)]
    share = memory[0] / memory[1]
    name = f"{what}: memory (losses {apart:.1e} apart)"
    row = common.Row(name, memory[0], memory[1], share, "GB", MEMORY_GOAL, at_most=True)
    return [speed, row]


def make_pairs(maker: common.TextMaker, num_pairs: int) -> list[Pair]:
    """Pairs of random words with lognormal lengths; all texts differ."""
    texts = maker.texts(2 * num_pairs, mean=MEAN_TOKENS)
    return [Pair(anchor, positive) for anchor, positive in zip(texts[::2], texts[1::2], strict=True)]


def prepare(shape: str, options: argparse.Namespace, folder: Path, num_pairs: int) -> Path:
    """Model and pairs on disk; return the model's folder."""
    maker = common.TextMaker()
    if shape == "gemma3" and options.gemma3:
        where = common.use_weights(options.gemma3, folder / shape, options.layers)
    else:
        where = common.save_model(SHAPES[shape](options.layers), maker.tokenizer, folder / shape)
    write_pairs(make_pairs(maker, num_pairs), where / "pairs.parquet")
    return where


def large_batch(options: argparse.Namespace, folder: Path) -> list[common.Row]:
    """One step of a large contrastive batch."""
    where = prepare("bloom", options, folder, options.large)
    run = alone("ours", where, options, batch_size=options.large, steps=1, precision=options.precisions[-1])
    name = f"bloom {options.precisions[-1]}, batch {options.large:,}, memory_gb {options.memory_gb}"
    return [
        common.Row(f"{name}: peak over the weights", run["bytes"] / GB, None, None, "GB", None, "< 4 GB"),
        common.Row(f"{name}: one step", options.large / run["seconds"], None, None, "pairs/s"),
    ]


def processes(options: argparse.Namespace, folder: Path) -> list[common.Row]:
    """Two processes of one thread each beside one process of two threads."""
    where = prepare("bloom", options, folder, options.batch_size * options.steps)
    rows = []
    for precision in options.precisions:
        one, two = [], []
        for _ in range(options.rounds):
            one.append(alone("ours", where, options, precision=precision)["seconds"])
            two.append(together(where, options, precision))
        work = options.batch_size * options.steps
        name = f"bloom {precision}: two processes / one with two threads"
        rows.append(common.compare(name, two, one, work=work, unit="pairs/s", goal=0.9))
    return rows


def together(folder: Path, options: argparse.Namespace, precision: str) -> float:
    """Seconds of the same steps on two gloo processes of one thread."""
    names = {"batch_size": options.batch_size, "steps": options.steps, "memory_gb": options.memory_gb, "threads": 1}
    arguments = [part for name, value in names.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, __file__, "--side", "ours", "--folder", str(folder), "--precision", precision, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return max(json.loads(line)["seconds"] for line in done.stdout.splitlines() if line.startswith("{"))


def loss_alone(options: argparse.Namespace) -> list[common.Row]:
    """The contrastive loss and its gradient for a square of scores that would never fit."""
    from udever.training.objectives import BatchIds, LossSettings, contrastive_loss

    pairs = options.loss
    anchors, positives = (torch.randn(pairs, 256).requires_grad_() for _ in range(2))
    none = torch.full((pairs,), -1)
    nothing = torch.tensor([], dtype=torch.int64)
    yes = torch.ones(pairs, dtype=torch.bool)
    rows = torch.arange(pairs)
    ids = BatchIds(rows, rows + pairs, nothing, nothing, nothing, none, none, ~yes, yes)
    before = resident_bytes("VmRSS")
    reset_peak()
    start = time.perf_counter()
    contrastive_loss(anchors, positives, anchors[:0].detach(), ids, LossSettings()).backward()
    seconds = time.perf_counter() - start
    taken = (resident_bytes("VmHWM") - before) / GB
    name = f"loss and gradient, {pairs:,} x {pairs:,} at 256 dimensions"
    return [
        common.Row(f"{name}: memory", taken, None, None, "GB", None, "< 1 GB"),
        common.Row(f"{name}: time", seconds, None, None, "s"),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    common.add_options(parser, layers=6)
    parser.set_defaults(rounds=3)
    known = ["float32", "bfloat16"] if common.multiplies_bfloat16() else ["float32"]
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"], default=known)
    parser.add_argument("--batch-size", type=int, default=96, help="pairs in a batch")
    parser.add_argument("--steps", type=int, default=2, help="steps in a run")
    parser.add_argument("--memory-gb", type=float, default=0.6, help="training.memory_gb of our side")
    parser.add_argument("--mini-batches", type=int, nargs="+", default=[8, 16, 32], help="sizes the peer tries")
    parser.add_argument("--large", type=int, metavar="PAIRS", help="measure one batch of so many pairs instead")
    parser.add_argument("--processes", action="store_true", help="measure two processes beside one instead")
    parser.add_argument("--loss", type=int, metavar="PAIRS", help="measure the loss alone instead")
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--mini-batch", type=int, default=16, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Build, run, report."""
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.side:
        pairs = read_pairs(options.folder / "pairs.parquet")
        print(json.dumps((ours if options.side == "ours" else theirs)(options.folder, pairs, options)), flush=True)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.loss:
            rows = loss_alone(options)
        elif options.large:
            rows = large_batch(options, folder)
        elif options.processes:
            rows = processes(options, folder)
        else:
            rows = []
            for shape in options.shapes:
                where = prepare(shape, options, folder, options.batch_size * options.steps)
                for precision in options.precisions:
                    rows += compare(shape, precision, where, options)
    title = f"train, {options.threads} threads, {options.layers} layers, batch {options.batch_size}"
    common.report(title, rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
