"""Corpus jobs: end to end beside pure encoding, a million rows in flat memory, two Ray workers beside one.

    python bench/corpus.py speed                         # goal: at least 0.95 of pure encoding
    python bench/corpus.py rows --rows 1000000           # goal: memory late in the job as early in it
    python bench/corpus.py ray                           # goal: two workers of one thread 1.8 times one

`speed`: `run_job` from a JSONL file to shards on disk, against `Embedder.encode_document` of the same texts in
memory, which tokenises too; the vectors are compared first. `rows`: a small model and short texts; resident
memory is read every second, and the highest of the second half is set against the highest of the first.
`ray`: texts a second between the first results of all workers and the last result, so that starting Ray and
loading models, which a long job pays once, do not count; the whole time is printed beside it.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch

from udever import Embedder
from udever.corpus import EmbedStep, RayRunner, Reading, audit, run_job
from udever.search.embeddings_file import read, shard_files

SPEED_GOAL, MEMORY_GOAL, RAY_GOAL = 0.95, 0.95, 1.8


def write_texts(path: Path, texts: list[str]) -> Reading:
    """A JSONL file of texts with ids."""
    with path.open("w") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": f"t{number}", "text": text}) + "\n")
    return Reading([str(path)])


def load_step(folder: str) -> EmbedStep:
    """What a worker loads."""
    return EmbedStep(Embedder.load(folder, dtype="float32", device="cpu"))


def speed(options: argparse.Namespace, maker: common.TextMaker, folder: Path, scratch: Path) -> list[common.Row]:
    """The whole job against encoding alone."""
    texts = list(dict.fromkeys(maker.texts(options.num_texts)))
    reading = write_texts(scratch / "texts.jsonl", texts)
    step = load_step(str(folder))
    output = scratch / "out"

    def job() -> None:
        shutil.rmtree(output, ignore_errors=True)
        run_job(step, reading, output, show_progress=False)

    job()
    ours = np.concatenate([read(file)[1].embeddings for file in shard_files(output) or []])
    cosines = (ours * step.embedder.encode_document(texts)).sum(1)
    print(f"lowest cosine of the job's vectors and pure encoding {cosines.min():.6f}")
    if not cosines.min() > 0.9999:
        raise SystemExit("different vectors, nothing timed")
    contenders = {"job": common.timed(job), "pure": common.timed(lambda: step.embedder.encode_document(texts))}
    seconds = common.interleave(contenders, options.rounds)
    num_tokens = sum(map(len, step.prepare(texts).ids))
    name = f"corpus job / pure encoding, {len(texts):,} texts, {num_tokens:,} tokens"
    return [common.compare(name, seconds["job"], seconds["pure"], work=num_tokens, unit="tokens/s", goal=SPEED_GOAL)]


class MemoryWatch:
    """Resident memory of this process, in MB, once a second while the block runs."""

    def __enter__(self) -> "MemoryWatch":
        self.samples: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            lines = Path("/proc/self/status").read_text().splitlines()
            self.samples.append(next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def rows(options: argparse.Namespace, maker: common.TextMaker, folder: Path, scratch: Path) -> list[common.Row]:
    """A great many short rows in flat memory."""
    path = scratch / "rows.jsonl"
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for number in range(options.rows):
            words = " ".join(maker.words[i] for i in rng.integers(0, len(maker.words), 4))
            file.write(json.dumps({"id": f"r{number}", "text": f"{words} {number % (options.rows * 9 // 10)}"}) + "\n")
    step = load_step(str(folder))
    started = time.perf_counter()
    with MemoryWatch() as watch:
        summary = run_job(step, Reading([str(path)]), scratch / "rows")
    seconds = time.perf_counter() - started
    half = len(watch.samples) // 2
    early, late = max(watch.samples[:half], default=0.0), max(watch.samples[half:], default=0.0)
    found = audit(scratch / "rows", show_progress=True)
    print(f"{summary.num_rows:,} rows in {seconds:,.0f} s, audit: {found.findings or 'whole'}")
    print("memory in MB by tenth:", [f"{max(part):.0f}" for part in np.array_split(watch.samples, 10) if len(part)])
    note = f"{summary.num_rows / seconds:,.0f} rows/s"
    name = f"{options.rows:,} rows, memory of the first half / second half"
    return [common.Row(name, early, late, early / late if late else None, "MB", MEMORY_GOAL, note)]


def ray_rate(load: Callable[[], EmbedStep], reading: Reading, output: Path, workers: int) -> tuple[float, float]:
    """Rows a second in full swing, and the seconds of the whole job."""
    shutil.rmtree(output, ignore_errors=True)
    ticks: list[tuple[float, float]] = []
    runner = RayRunner(load, workers=workers, threads=1)

    def watched(jobs: Any, step: Any, reuse: Any, tick: Callable[[float, int], None]) -> None:
        def noting(num_rows: float, num_tokens: int) -> None:
            ticks.append((time.perf_counter(), num_rows))
            tick(num_rows, num_tokens)

        runner(jobs, step, reuse, noting)

    started = time.perf_counter()
    run_job(load(), reading, output, runner=watched, show_progress=False)
    seconds = time.perf_counter() - started
    swing = ticks[workers:]
    return sum(num_rows for _, num_rows in swing) / (swing[-1][0] - ticks[workers - 1][0]), seconds


def ray(options: argparse.Namespace, maker: common.TextMaker, folder: Path, scratch: Path) -> list[common.Row]:
    """Two workers with a thread each against one."""
    texts = list(dict.fromkeys(maker.texts(options.num_texts)))
    reading = write_texts(scratch / "texts.jsonl", texts)
    reading = Reading(reading.inputs, window_rows=max(1, len(texts) // options.windows))
    load = partial(load_step, str(folder))
    two, one = [], []
    for _ in range(options.rounds):
        for workers, rates in ((2, two), (1, one)):
            rate, seconds = ray_rate(load, reading, scratch / f"ray{workers}", workers)
            rates.append(rate)
            print(f"{workers} workers: {rate:,.1f} rows/s in full swing, {seconds:,.0f} s in all")
    pairs = [1 / rate for rate in two], [1 / rate for rate in one]
    return [common.compare("2 Ray workers / 1, a thread each", *pairs, work=1, unit="rows/s", goal=RAY_GOAL)]


def main() -> int:
    """Measure and report."""
    parts = {"speed": speed, "rows": rows, "ray": ray}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=list(parts))
    common.add_options(parser, layers=2)
    parser.add_argument("--width", type=int, help="hidden size (default 384; 64 for `rows`)")
    parser.add_argument("--num-texts", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--windows", type=int, default=24, help="windows of `ray`")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    maker = common.TextMaker()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        width = options.width or (64 if options.part == "rows" else 384)
        model = common.bloom(options.layers, width=width, heads=width // 32)
        folder = common.save_model(model, maker.tokenizer, scratch / "model", noise=0.02)
        found = parts[options.part](options, maker, folder, scratch)
    common.report(f"corpus {options.part}, {options.threads} threads, {options.layers} layers", found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
