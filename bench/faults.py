"""Faults: jobs killed at random moments and run again, and single bits turned over.

    python bench/faults.py kills --number 1000      # embed, index, classify, train and adapt
    python bench/faults.py flips --number 1000      # weights, tokenizer, shards, index

After every kill (one in four is killed twice) the same job is run to its end: its output must be that of a run that
nobody stopped, with no file beside it. A flipped bit must be noticed by load or audit. Prints a line a kind and ends
with 1 where anything was lost, half, different, left over or unnoticed.
"""

import argparse
import hashlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ["OMP_NUM_THREADS"] = "1"  # a forked child has no other threads to wait for
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["LANCEDB_LOG"] = "error"

Work = Callable[[Path], None]
WEIGHTS = {"embed": 8, "index": 6, "classify": 4, "train": 2, "adapt": 1}
"""How often a kind is killed: quick ones more often."""


_VERBS = ["copy", "parse", "split", "hash"]
_NOUNS = ["tree", "date", "line", "key", "file", "socket", "path", "table", "queue", "graph", "lock", "page"]
_FUNCTION = '''def {0}_{1}(value):
    """{2} the {1} that was given first."""
    {1} = value.{0}()
    check({1})
    return {1}.{0}ed


'''


def digest(folder: Path, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Every file below `folder`, hidden ones too, by a digest of its bytes."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.name not in without
    }


class Jobs:
    """The five jobs on small inputs in `room`; each writes `out` in the folder that it gets, and below nothing else."""

    def __init__(self, room: Path) -> None:
        from udever.embedder import Embedder

        self.room = room
        self.embedder = Embedder.load("seedling", dtype="float32", device="cpu")
        self.corpus = room / "corpus.txt"
        self.corpus.write_text("".join(f"text {n % 40} of a small corpus\n" for n in range(48)))
        self.tree = room / "tree"
        self.tree.mkdir()
        for n in range(12):
            code = "".join(_FUNCTION.format(verb, _NOUNS[n], verb.title()) for verb in _VERBS)
            (self.tree / f"file_{n}.py").write_text(code)
        self.pairs = room / "pairs.jsonl"
        self.pairs.write_text(
            "".join(
                f'{{"anchor": "question {n}", "positive": "answer {n}", "kind": "asymmetric"}}\n' for n in range(16)
            )
        )

    def embed(self, place: Path) -> None:
        """Vectors of a corpus."""
        from udever.corpus import EmbedStep, Reading, run_job

        reading = Reading([str(self.corpus)], window_rows=8)
        run_job(EmbedStep(self.embedder), reading, place / "out", show_progress=False)

    def index(self, place: Path) -> None:
        """The index of a tree."""
        from udever.search.lance import LanceStore
        from udever.search.update import IndexSettings, update_index

        update_index(LanceStore(place / "out"), [self.tree], lambda _: self.embedder, IndexSettings("seedling"))

    def classify(self, place: Path) -> None:
        """A filter."""
        from udever.classify import FitSettings, fit
        from udever.classify.examples import Examples
        from udever.report.filter import filter_markdown

        texts = [f"{word} {n}" for n in range(12) for word in ("red", "green")]
        examples = Examples(texts, [(text.split()[0],) for text in texts], None, "one")
        made, told = fit(
            self.embedder.encode(texts),
            examples,
            fingerprint=self.embedder.fingerprint,
            model="m",
            settings=FitSettings(),
        )
        made.save(place / "out", {"report.json": told.json(), "report.md": filter_markdown(told)})

    def train(self, place: Path) -> None:
        """A model by a recipe, from checkpoints."""
        from udever.pairs.settings import DataSettings
        from udever.training import train
        from udever.training.recipe import ModelSettings, OutputSettings, Recipe, TrainingSettings, WatchSettings

        recipe = Recipe(
            model=ModelSettings(base="seedling", max_length=16),
            data=DataSettings(pairs=[str(self.pairs)]),
            training=TrainingSettings(tuning="bitfit", batch_size=4, max_steps=4),
            output=OutputSettings(folder=str(place / "out")),
            watch=WatchSettings(checkpoint_every=1),
        )
        train(recipe, resume=True, show_progress=False)

    def adapt(self, place: Path) -> None:
        """A model for a tree."""
        from udever.adaptation import AdaptSettings, adapt
        from udever.training import TrainingSettings

        training = TrainingSettings(tuning="bitfit", batch_size=8, max_steps=2)
        settings = AdaptSettings(training=training, held_out=0.3, kinds=("code",), max_length=32)
        adapt([self.tree], place / "out", settings, resume=True)

    def state(self, kind: str, place: Path) -> Any:
        """What has to be alike: bytes; of an index, whose files are named at random, its content and an audit."""
        names = sorted(path.name for path in place.iterdir())
        if kind != "index":
            moving = {"train": ("log.jsonl", "training.svg"), "adapt": ("report.html", "held_out_asymmetric.json")}
            return names, digest(place, moving.get(kind, ()))
        from udever.search.audit import audit
        from udever.search.lance import LanceStore

        store = LanceStore(place / "out")
        ids, vectors = store.embeddings()
        order = np.argsort(ids)
        hidden = sorted(path.name for path in (place / "out").iterdir())
        findings = audit(str(place / "out"), lambda *_: self.embedder).findings
        return names, hidden, [ids[n] for n in order], vectors[order].round(4).tolist(), findings


def child(call: Callable[[], Any], kill_after: float | None = None) -> Any:
    """`call` in a forked process: its result, or None where it was killed after so many seconds."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process = os.fork()
    if process == 0:
        code = 1
        try:
            warnings.simplefilter("ignore")
            os.close(read)
            told = hashlib.sha256(repr(call()).encode()).hexdigest()
            os.write(write, told.encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return None
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError("the job failed; its traceback is above")
    return told


def kills(number: int, kinds: list[str], seed: int, seconds: float) -> bool:
    """Kill `number` times, or for so many seconds; whether all was well."""
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    told = 0
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        jobs = Jobs(room)
        times, expected = {}, {}
        for kind in kinds:
            place = room / "place"
            place.mkdir()
            started = time.perf_counter()
            child(lambda kind=kind, place=place: getattr(jobs, kind)(place))
            times[kind] = time.perf_counter() - started
            expected[kind] = child(lambda kind=kind, place=place: jobs.state(kind, place))
            shutil.rmtree(place)
        shares = np.array([WEIGHTS[kind] for kind in kinds], float)
        place = room / "place"  # one path for all: recipes and reports name it
        began = time.perf_counter()
        while counts.total() < number and time.perf_counter() - began < seconds:
            kind = str(rng.choice(kinds, p=shares / shares.sum()))
            place.mkdir()
            for _ in range(2 if rng.random() < 0.25 else 1):
                child(lambda kind=kind: getattr(jobs, kind)(place), float(rng.uniform(0, times[kind])))
                counts[kind] += 1
            try:
                child(lambda kind=kind: getattr(jobs, kind)(place))
                if child(lambda kind=kind: jobs.state(kind, place)) != expected[kind]:
                    raise RuntimeError("the output is not that of a run that nobody stopped")
            except RuntimeError as error:
                bad[kind] += 1
                kept = Path(tempfile.mkdtemp(prefix=f"faults-{kind}-"))
                shutil.copytree(place, kept, dirs_exist_ok=True)
                print(f"{kind}: {error}; see {kept}", flush=True)
            shutil.rmtree(place)
            if counts.total() // 100 > told:
                told = counts.total() // 100
                print(f"{counts.total()} kills, {bad.total()} with a trace, {dict(counts)}", flush=True)
    for kind in kinds:
        print(f"{kind}: {counts[kind]} kills, {bad[kind]} with a trace", flush=True)
    return not bad


def flips(number: int, seed: int) -> bool:
    """Turn `number` bits over, each alone; whether all were noticed."""
    from udever.corpus import audit
    from udever.embedder import Embedder
    from udever.errors import UdeverError
    from udever.search.seal import damage

    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        jobs = Jobs(room)
        for kind in ("embed", "index"):
            (room / kind).mkdir()
            child(lambda kind=kind: getattr(jobs, kind)(room / kind))
        jobs.embedder.save(room / "model")

        def load() -> bool:
            try:
                Embedder.load(str(room / "model"), dtype="float32", device="cpu")
            except UdeverError:
                return True
            return False

        shards = sorted((room / "embed" / "out" / "shards").iterdir())
        sealed = [p for p in (room / "index" / "out").rglob("*") if p.is_file() and ".lance" in str(p)]
        kinds: dict[str, tuple[list[Path], Callable[[], bool]]] = {
            "shards": (shards, lambda: not audit(room / "embed" / "out").whole),
            "index": (sealed, lambda: bool(damage(room / "index" / "out"))),
            "weights": ([room / "model" / "model.safetensors"], load),
            "tokenizer": ([room / "model" / "tokenizer.json"], load),
        }
        for turn in range(number):
            kind = list(kinds)[turn % len(kinds)]
            paths, notices = kinds[kind]
            path = paths[rng.integers(len(paths))]
            bit = int(rng.integers(8 * path.stat().st_size))
            _flip(path, bit)
            counts[kind] += 1
            missed[kind] += not notices()
            _flip(path, bit)
    for kind, count in counts.items():
        print(f"{kind}: {count} bits, {missed[kind]} unnoticed", flush=True)
    return not missed.total()


def _flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "flips"])
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e9, help="Kill no longer than this.")
    parser.add_argument("--kinds", nargs="+", choices=list(WEIGHTS), default=list(WEIGHTS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in ("lancedb", "udever.adaptation", "udever.classify", "udever.corpus", "udever.training"):
        importlib.import_module(name)  # before any fork: LanceDB's runtime does not live through one

    good = (
        kills(given.number, given.kinds, given.seed, given.seconds)
        if given.what == "kills"
        else flips(given.number, given.seed)
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()
