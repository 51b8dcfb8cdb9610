"""Bases side by side: how soon each is loaded, how fast it embeds, how much memory it takes.

    python bench/bases.py seedling gemma3-270m path/to/model.gguf bigscience/bloom-560m
    python bench/bases.py seedling --threads 2 --rounds 5

Each base runs in a process of its own, twice: the first run converts or fetches what has to be, the second is
measured. The texts are the paragraphs of docs/, the time is the median of the rounds, memory is the most that the
process held, torch and all.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
NUM_TEXTS = 256


def texts() -> list[str]:
    """Paragraphs as people write them, 60 to 1,000 characters long."""
    pages = sorted(DOCS.glob("*.md"))
    paragraphs = [text for page in pages for text in page.read_text(encoding="utf-8").split("\n\n")]
    return [text for text in paragraphs if 60 <= len(text) <= 1000][:NUM_TEXTS]


def measure(name: str, threads: int | None, rounds: int) -> dict[str, float]:
    """The numbers of one base, in this process."""
    start_s = time.perf_counter()
    from udever import Embedder

    if threads:
        import torch

        torch.set_num_threads(threads)
    embedder = Embedder.load(name)
    embedder.encode(["one text"])
    first_s = time.perf_counter() - start_s
    documents, seconds = texts(), []
    for _ in range(rounds):
        start_s = time.perf_counter()
        embedder.encode_document(documents)
        seconds.append(time.perf_counter() - start_s)
    num_tokens = sum(map(len, embedder.tokenize(documents, "document").ids))
    return {
        "dimensions": embedder.dimensions,
        "first_s": first_s,
        "texts_per_s": len(documents) / statistics.median(seconds),
        "tokens_per_s": num_tokens / statistics.median(seconds),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_a_process(name: str, options: argparse.Namespace) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, name, "--child", "--rounds", str(options.rounds)]
    command += ["--threads", str(options.threads)] if options.threads else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure every base, print a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bases", nargs="+")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.bases[0], options.threads, options.rounds)))
        return
    print("| base | dimensions | to the first vector | texts a second | tokens a second | memory |")
    print("|---|---|---|---|---|---|")
    for name in options.bases:
        in_a_process(name, options)
        row = in_a_process(name, options)
        print(
            f"| {name} | {row['dimensions']} | {row['first_s']:.1f} s | {row['texts_per_s']:,.0f} | "
            f"{row['tokens_per_s']:,.0f} | {row['peak_mb']:,.0f} MB |"
        )


if __name__ == "__main__":
    main()
