"""What a command loses beside other work on the same processors, and what its way of waiting costs on a quiet machine.

    python bench/busy.py                     # train and embed, quiet and beside one busy loop
    python bench/busy.py --loops 2           # beside two
    python bench/busy.py --sweep             # other bounds on how long a thread looks before it sleeps

A command looks at what other processes take of the processors while it starts, and chooses by that how long its threads
look before they sleep: "ours". "plain" are the settings of torch and its OpenMP (threads spin 300,000 times before they
sleep), "passive" is OMP_WAIT_POLICY=PASSIVE, "one thread" is `--threads 1`.
Every run is `udever train` (the seedling, texts of about 25 words, a batch of 64) or `udever embed` in a process of its
own; a step's time is the median of its log's without the first three. Settings and machine states take turns, so that
what else the machine does falls on all alike. Run it on a machine that does nothing else: the busy loops are its own.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import common
import numpy as np

from udever.pairs.files import write_pairs
from udever.pairs.schema import Pair
from udever.processors import BUSY_SPINS, QUIET_SPINS

BUSY_GOAL, QUIET_GOAL = 1.5, 1.03
WARM_UP_STEPS = 3
SWEPT = (0, 100, 300, 1000, 2000, 3000, 5000, 10_000, 30_000, 100_000)
SWEEP = f"bounds {', '.join(map(str, SWEPT))} (ours: {QUIET_SPINS} on a quiet machine, else {BUSY_SPINS})"
RECIPE = """
[model]
base = "seedling"
[[data.datasets]]
path = "{folder}/pairs.parquet"
[training]
tuning = "full"
batch_size = 64
max_steps = {steps}
[watch]
evaluate_queries = 0
[output]
folder = "{folder}/model"
"""


@dataclass(frozen=True)
class Setting:
    """How a command is told to compute."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


OURS = Setting("ours")
PLAIN = Setting("plain", {"GOMP_SPINCOUNT": "300000"})
SETTINGS = (
    OURS,
    PLAIN,
    Setting("passive", {"OMP_WAIT_POLICY": "PASSIVE"}),
    Setting("one thread", {}, ("--threads", "1")),
)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that never wait, inside the block."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def run(folder: Path, setting: Setting, *arguments: str) -> str:
    """The output of a command under a setting."""
    named = ("OMP_", "GOMP_", "KMP_", "MKL_", "RAYON_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    command = [sys.executable, "-m", "udever", *arguments, *setting.options]
    done = subprocess.run(
        command, cwd=folder, env={**environment, **setting.environment}, capture_output=True, text=True, check=True
    )
    return done.stdout


def train(folder: Path, setting: Setting) -> float:
    """Seconds of a training step."""
    run(folder, setting, "train", "recipe.toml", "--restart")
    lines = map(json.loads, (folder / "model-checkpoints" / "log.jsonl").read_text().splitlines())
    return statistics.median([line["seconds"] for line in lines if "seconds" in line][WARM_UP_STEPS:])


def embed(folder: Path, setting: Setting) -> float:
    """Seconds a million tokens take."""
    output = folder / "vectors"
    shutil.rmtree(output, ignore_errors=True)
    printed = run(folder, setting, "embed", "-m", "seedling", "texts.txt", "-o", str(output))
    found = re.search(r"([\d,]+) tokens/s", printed)
    assert found is not None, printed
    return 1e6 / float(found[1].replace(",", ""))


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Pairs, texts and the recipe."""
    rng = np.random.default_rng(0)
    words = common.make_words(4000, rng)

    def text() -> str:
        return " ".join(rng.choice(words, max(3, int(rng.lognormal(3.0, 0.6)))))

    write_pairs([Pair(text(), text()) for _ in range(64 * options.steps)], folder / "pairs.parquet")
    (folder / "texts.txt").write_text("\n".join(text() for _ in range(options.texts)))
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder, steps=options.steps))


def measure(folder: Path, work: str, settings: tuple[Setting, ...], options: argparse.Namespace) -> list[common.Row]:
    """Each setting on a quiet machine and beside busy loops, in turns."""
    once = {"train": train, "embed": embed}[work]
    unit = {"train": "s a step", "embed": "s a million tokens"}[work]
    seconds: dict[tuple[str, bool], list[float]] = {}
    for _ in range(options.rounds):
        for is_busy in (False, True):
            with busy(options.loops if is_busy else 0):
                for setting in settings:
                    seconds.setdefault((setting.name, is_busy), []).append(once(folder, setting))
    middle = {key: statistics.median(found) for key, found in seconds.items()}
    rows = []
    for setting in settings:
        quiet, beside = middle[setting.name, False], middle[setting.name, True]
        goal = BUSY_GOAL if setting is OURS else None
        rows.append(
            common.Row(f"{work}, {setting.name}: busy / quiet", beside, quiet, beside / quiet, unit, goal, at_most=True)
        )
    if PLAIN in settings:
        ours, plain = middle[OURS.name, False], middle[PLAIN.name, False]
        rows.append(
            common.Row(f"{work}, quiet: ours / plain", ours, plain, ours / plain, unit, QUIET_GOAL, at_most=True)
        )
    return rows


def main() -> int:
    """Measure and report; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", nargs="+", choices=["train", "embed"], default=["train", "embed"])
    parser.add_argument("--loops", type=int, default=1, help="busy loops (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each setting and state (default %(default)s)")
    parser.add_argument("--steps", type=int, default=19, help="steps of a training (default %(default)s)")
    parser.add_argument("--texts", type=int, default=4000, help="texts embedded (default %(default)s)")
    parser.add_argument("--sweep", action="store_true", help=SWEEP)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    options = parser.parse_args()
    settings = tuple(Setting(f"{spins} spins", {"GOMP_SPINCOUNT": str(spins)}) for spins in SWEPT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, options)
        rows = [
            row
            for work in options.work
            for row in measure(folder, work, settings if options.sweep else SETTINGS, options)
        ]
    common.report(f"Beside {options.loops} busy loops: ours is busy, peer quiet", rows, options.json)
    return int(any(row.goal is not None and (row.ratio or 0) > row.goal for row in rows))


if __name__ == "__main__":
    sys.exit(main())
