"""How much memory a model takes once it is loaded and has embedded a text, by precision.

    python bench/memory.py                # Qwen3-0.6B's shape, random weights
    python bench/memory.py --model MODEL  # a model there is

Each precision is loaded by a process of its own. What counts is what lies in memory more than before the load, the
model's file as far as it is mapped included (Linux: VmRSS), once every weight has been read.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import common
import numpy as np

LOADED = """
import gc, sys
from udever import Embedder
from udever.allocator import resident_bytes
Embedder.load("seedling").encode(["warm-up"])
def held():
    gc.collect()
    return resident_bytes()[0] / 1e6
before = held()
embedder = Embedder.load(sys.argv[1], dtype=sys.argv[2])
embedder.encode(["a text"])
for weight in embedder.backbone.parameters():
    weight.sum()
print(held() - before)
"""


def held(model: str, dtype: str) -> float:
    """Megabytes that a process holds more once it has loaded the model."""
    done = subprocess.run([sys.executable, "-c", LOADED, model, dtype], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main() -> None:
    """Load and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or name; without it Qwen3-0.6B's shape is built")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = given.model
        if model is None:
            words = " ".join(common.make_words(2000, np.random.default_rng(0)))
            whole = common.qwen3(28, vocab_size=151_936)
            model = str(common.save_model(whole, common.train_tokenizer([words], 8192), Path(scratch) / "model"))
            del whole
        most = held(model, "float32")
        rows = [
            common.Row(f"{dtype} / float32, MB", taken, most, taken / most, "MB", goal, at_most=True)
            for dtype, goal in (("bfloat16", 0.6), ("int8", 0.3))
            for taken in [held(model, dtype)]
        ]
        common.report("memory of a loaded model", rows, given.json)


if __name__ == "__main__":
    main()
