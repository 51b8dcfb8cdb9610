"""How fast an index answers and how fast it finds that nothing has changed.

Vectors are made, not embedded: points on the unit sphere in clusters, as passages of text lie, not uniform noise,
which no index can search. Each of `--clusters` centres is a Gaussian draw; the clusters' sizes fall as 1 / rank^0.5;
a point is its centre plus Gaussian noise of `--noise` times the centre's length, in a random subspace of
`--intrinsic` dimensions of its own for each cluster, plus a tenth of that in all dimensions, then scaled to length 1.
Queries are further draws, none of them in the index. The index is made as `udever index` makes one, and tuned by
`udever index-tune` on queries of its own, which are not those that are measured.

    python bench/search.py                  # 200,000 vectors of 384 dimensions, 5,000 files
    python bench/search.py --quick          # small enough for a test
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from udever.search.exact import top_k
from udever.search.index import Index, describe
from udever.search.lance import LanceStore
from udever.search.searchable import Filters
from udever.search.store import ChunkRow, FileRecord, IndexManifest, Tuning, Where, digest_of
from udever.search.tune import tune
from udever.search.update import IndexSettings, update_index
from udever.source.chunks import Chunk
from udever.text.words import words

RECALL_GOAL, LATENCY_GOAL_MS, UNCHANGED_GOAL_S = 0.95, 10.0, 2.0
_CHUNKS_PER_FILE = 40
_LANGUAGES = ("python-Code", "go-Code", "eng-Latn", "deu-Latn")
_WORDS = 20_000


class Cloud:
    """Draws from the clusters the module's docstring describes."""

    def __init__(self, dimensions: int, clusters: int, intrinsic: int, noise: float, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        self.centres = self.rng.standard_normal((clusters, dimensions)).astype(np.float32)
        self.centres /= np.linalg.norm(self.centres, axis=1, keepdims=True)
        bases = self.rng.standard_normal((clusters, intrinsic, dimensions)).astype(np.float32)
        self.bases = bases / np.linalg.norm(bases, axis=2, keepdims=True) / np.sqrt(intrinsic)
        shares = 1 / np.sqrt(np.arange(1, clusters + 1))
        self.shares = shares / shares.sum()

    def draw(self, number: int) -> NDArray[np.float32]:
        """`number` points of unit length: float32 [number, dimensions]."""
        clusters, intrinsic, dimensions = self.bases.shape
        chosen = self.rng.choice(clusters, number, p=self.shares)
        out = self.centres[chosen]
        for cluster in np.unique(chosen):
            rows = np.flatnonzero(chosen == cluster)
            inside = self.rng.standard_normal((len(rows), intrinsic)).astype(np.float32)
            out[rows] += self.noise * inside @ self.bases[cluster]
        everywhere = self.rng.standard_normal((number, dimensions)).astype(np.float32) / np.sqrt(dimensions)
        out += 0.1 * self.noise * everywhere
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def fill(store: LanceStore, embeddings: NDArray[np.float32], *, block: int = 20_000) -> None:
    """Write an index of `embeddings` with short texts of random words, 40 chunks a file."""
    rng = np.random.default_rng(1)
    vocabulary = [f"word{number}" for number in range(_WORDS)]
    weights = 1 / np.arange(2, _WORDS + 2)
    weights /= weights.sum()
    store.create(embeddings.shape[1])
    for start in range(0, len(embeddings), block):
        stop = min(start + block, len(embeddings))
        drawn = rng.choice(_WORDS, (stop - start, 30), p=weights)
        rows, paths = [], {}
        for number, line in zip(range(start, stop), drawn, strict=True):
            file, place = divmod(number, _CHUNKS_PER_FILE)
            path = f"part{file % 10}/file{file}.py"
            paths[path] = None
            text = " ".join(vocabulary[word] for word in line)
            chunk = Chunk(place + 1, place + 1, text, "function", "f", "", _LANGUAGES[file % len(_LANGUAGES)])
            rows.append(ChunkRow(path, place, chunk, digest_of(str(number).encode()), " ".join(words(text)), False))
        store.replace(list(paths), rows, embeddings[start:stop])
        store.put_files([FileRecord(path, 1, 1, "x", _CHUNKS_PER_FILE) for path in paths])
    manifest = IndexManifest(
        model="bench",
        fingerprint="bench",
        precision="float32",
        dimensions=embeddings.shape[1],
        base="/",
        roots=(".",),
    )
    store.write_manifest(manifest.model_dump_json())
    store.optimise()


def latencies(
    work: Callable[[NDArray[np.float32]], Any], queries: NDArray[np.float32]
) -> tuple[list[Any], list[float]]:
    """What `work` returns for each query and the milliseconds it took, after a warm-up of ten."""
    for query in queries[:10]:
        work(query)
    results, took = [], []
    for query in queries:
        started = time.perf_counter()
        results.append(work(query))
        took.append(1000 * (time.perf_counter() - started))
    return results, took


def measure_search(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Recall and latency of an index of made vectors, exact and as tuned, without and with filters."""
    cloud = Cloud(options.dimensions, options.clusters, options.intrinsic, options.noise)
    embeddings, queries = cloud.draw(options.vectors), cloud.draw(options.queries)
    store = LanceStore(folder / "index")
    started = time.perf_counter()
    fill(store, embeddings)
    say(f"filled with {options.vectors:,} vectors of {options.dimensions} in {time.perf_counter() - started:.0f} s")
    started = time.perf_counter()
    tuned = tune(
        store,
        recall=options.recall,
        queries=cloud.draw(64),
        quick=options.quick_tune,
        say=lambda t: say(f"  {describe(t)}: recall {t.recall:.3f}, {t.latency_ms:.1f} ms, {t.size_bytes:,} bytes"),
    )
    say(f"tuned in {time.perf_counter() - started:.0f} s: {describe(tuned.chosen)}")
    index = Index(LanceStore(folder / "index"))
    ids, stored = store.embeddings()
    truth = [{ids[row] for row in rows} for rows in top_k(queries, stored, 10)[1]]
    exact = Tuning(dimensions=options.dimensions)
    searches: dict[str, Callable[[NDArray[np.float32]], Any]] = {
        "exact": lambda query: index.store.nearest(query, 10, Where(), exact),
        "tuned": lambda query: index.store.nearest(query, 10, Where(), tuned.chosen),
        "tuned, through Index.find by meaning": lambda query: index.find("", query, 10, mode="meaning"),
        "tuned, both, three words": lambda query: index.find("word5 word50 word500", query, 10),
        "tuned, one language of four": lambda query: index.find(
            "", query, 10, mode="meaning", filters=Filters(languages=["go-Code"])
        ),
        "tuned, a tenth of the paths": lambda query: index.find(
            "", query, 10, mode="meaning", filters=Filters(paths=["part3/**"])
        ),
    }
    rows = []
    for name, search in searches.items():
        few = queries[: max(10, len(queries) // (10 if name == "exact" else 1))]
        results, took = latencies(search, few)
        recall = None
        if name in ("exact", "tuned"):
            shares = [
                len({hit.id for hit in hits} & true) / len(true) for hits, true in zip(results, truth, strict=False)
            ]
            recall = statistics.mean(shares)
        full = sum(len(hits) == min(10, options.vectors) for hits in results) / len(results)
        rows.append(
            {
                "row": name,
                "recall@10": recall,
                "median ms": statistics.median(took),
                "p95 ms": float(np.quantile(took, 0.95)),
                "full": full,
            }
        )
    return rows


class HashEmbedder:
    """A model of no weight, so that what is timed is the index."""

    name, fingerprint, dimensions = "hash", "hash", 64

    def encode_document(self, texts: list[str], *, truncate_dim: int | None = None) -> NDArray[np.float32]:
        """A vector for each text from the hashes of its words."""
        vectors = np.full((len(texts), truncate_dim or self.dimensions), 1e-3, dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.split():
                vector[hashlib.blake2b(word.encode(), digest_size=2).digest()[0] % len(vector)] += 1
        self.last_truncation = SimpleNamespace(truncated=np.zeros(len(texts), np.bool_))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_tree(folder: Path, files: int) -> None:
    """`files` Python files of three functions and a class in folders of 50, dated an hour ago."""
    an_hour_ago = time.time() - 3600
    for number in range(files):
        path = folder / f"package{number // 50}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        body = "".join(
            f"def function_{number}_{part}(a, b):\n    total = a + {number}\n    return total * b\n\n\n"
            for part in range(3)
        )
        path.write_text(f"import os\n\n\n{body}class Thing{number}:\n    size = {number}\n")
        os.utime(path, (an_hour_ago, an_hour_ago))


def measure_update(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Seconds to index a tree, to find it unchanged, and to take in one changed file; and what a process adds."""
    tree = folder / "tree"
    write_tree(tree, options.files)
    store = LanceStore(tree / ".udever" / "index")
    embedder: Any = HashEmbedder()

    def update() -> float:
        return update_index(store, [tree], lambda name: embedder, IndexSettings("hash")).seconds

    rows: list[dict[str, Any]] = [{"row": f"index {options.files:,} files, vectors for nothing", "seconds": update()}]
    unchanged = [update() for _ in range(options.rounds)]
    rows.append({"row": "again, unchanged", "seconds": statistics.median(unchanged)})
    (tree / "package0" / "module0.py").write_text("def other():\n    return 1\n")
    rows.append({"row": "again, one file changed", "seconds": update()})
    if options.quick:
        return rows
    command = [sys.executable, "-m", "udever", "index", str(tree)]
    took = []
    for _ in range(options.rounds):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    rows.append({"row": "`udever index` as a process, unchanged", "seconds": statistics.median(took)})
    say(f"unchanged, single runs: {', '.join(f'{seconds:.2f}' for seconds in unchanged)} s")
    return rows


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; `--quick` makes everything small."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=1_000)
    parser.add_argument("--intrinsic", type=int, default=32, help="dimensions in which a cluster spreads")
    parser.add_argument("--noise", type=float, default=1.2, help="a cluster's spread beside its centre's length 1")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--recall", type=float, default=0.96, help="recall@10 to tune for")
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5, help="timed runs over the unchanged tree")
    parser.add_argument("--quick-tune", action="store_true", help="try the first kind of index alone")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    options = parser.parse_args(arguments)
    if options.quick:
        options.vectors, options.dimensions, options.clusters = 2_000, 32, 20
        options.intrinsic, options.queries, options.files, options.rounds = 8, 20, 40, 1
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure, print both tables, say which goals hold."""
    options = parse(arguments)
    console = Console(width=None if Console().is_terminal else 130)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    with tempfile.TemporaryDirectory(prefix="udever-search-") as folder:
        rows = measure_search(options, Path(folder), say) + measure_update(options, Path(folder), say)
    table = Table()
    columns = ("row", "recall@10", "median ms", "p95 ms", "full", "seconds")
    for column in columns:
        table.add_column(column, justify="left" if column == "row" else "right")
    for row in rows:
        table.add_row(row["row"], *("" if row.get(name) is None else f"{row[name]:.3f}" for name in columns[1:]))
    console.print(table)
    by_name = {row["row"]: row for row in rows}
    tuned, unchanged = by_name["tuned"], by_name["again, unchanged"]
    say(f"recall@10 {tuned['recall@10']:.3f} (goal {RECALL_GOAL}), median {tuned['median ms']:.1f} ms "
        f"(goal {LATENCY_GOAL_MS:g}); unchanged {unchanged['seconds']:.2f} s (goal {UNCHANGED_GOAL_S:g})")  # fmt: skip
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
