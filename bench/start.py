"""How long a person waits for what should be there at once: help, a first vector, a search from the command line.

    python bench/start.py                        # an index of this project's own source, the seedling
    python bench/start.py path/to/index -m MODEL # an index there is

Every run is a process of its own, started anew; all take turns. A command's time is until it has ended, the first
vector's until the process says that it has it. Times are the median of all rounds after one that warms the disk's cache
up.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

SOURCE = Path(__file__).parents[1] / "src" / "udever"
FIRST_VECTOR = (
    "import udever; v = udever.Embedder.load({model!r}).encode_query('read a file'); print(v.shape, flush=True)"
)


def seconds(command: list[str]) -> float:
    """How long a command takes, which must end well."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def seconds_to_answer(command: list[str]) -> float:
    """How long a command takes to say its first line; it must end well."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = time.perf_counter() - began
    subprocess.CompletedProcess(command, process.returncode).check_returncode()
    return taken


def main() -> int:
    """Measure and report; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("index", nargs="?", help="an index; else one is made of the project's source")
    parser.add_argument("--model", "-m", default="seedling", help="the model of the index (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    options = parser.parse_args()
    udever = [sys.executable, "-m", "udever"]
    with tempfile.TemporaryDirectory() as folder:
        index = options.index or f"{folder}/index"
        if options.index is None:
            subprocess.run([*udever, "index", str(SOURCE), "-m", options.model, "-o", index], check=True)
        search = [*udever, "search", "read the rows of a parquet file", index]
        works = {
            "udever --help": ([*udever, "--help"], 0.3),
            "import and load to a first vector": (
                [sys.executable, "-c", FIRST_VECTOR.format(model=options.model)],
                1.5,
            ),
            "udever search by meaning and words": (search, 2.0),
            "udever search by words": ([*search, "--mode", "words"], 2.0),
        }
        contenders = {
            name: lambda command=command: (seconds if command[1] == "-m" else seconds_to_answer)(command)
            for name, (command, _) in works.items()
        }
        found = common.interleave(contenders, options.rounds)
    rows = [
        common.Row(name, statistics.median(times), goal, statistics.median(times) / goal, "s", 1.0, at_most=True)
        for (name, times), (_, goal) in zip(found.items(), works.values(), strict=True)
    ]
    common.report("From the command to the answer: ours, and at most", rows, options.json)
    return int(any((row.ratio or 0) > 1 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
