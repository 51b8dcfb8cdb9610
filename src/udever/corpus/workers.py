"""Windows done by several workers, each with a model of its own: processes of this machine, or Ray's actors (`on_ray`).

The driver reads, plans and spools; the workers read spooled windows from the output folder. A window that shares no
text with others is finished where it was embedded; of the rest the worker leaves the records in the work folder and the
driver finishes them in order.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from udever import errors
from udever.corpus.shards import shard_of
from udever.corpus.step import Output, Step, Tick, digest_of
from udever.corpus.window_job import Place, Reuse, WindowJob, do, finish, nothing
from udever.errors import ContractError, OutputError, RecipeError, UdeverError
from udever.processors import use_threads
from udever.storage import atomic_file

_TRIES = 4  # Ray would try a window that kills its worker for ever

Item = dict[str, Any]
"""What a worker is told of a window."""
Run = Callable[[Sequence[Item], str], Generator[dict[str, Any], None, None]]
"""Has workers do the windows, whose step must have that digest; gives what each says, in any order."""


def check_counts(workers: int, threads: int) -> None:
    """Raise RecipeError unless there is at least one of each."""
    if workers < 1 or threads < 1:
        raise RecipeError(f"workers is {workers}, threads {threads}; expected at least 1")


def drive(jobs: Iterator[WindowJob], step: Step, reuse: Reuse, tick: Tick, run: Run) -> None:
    """Have workers do all jobs, and finish what they may not. Raises what a worker raised."""
    plans = [SavedJob.save(job) for job in jobs]
    queue = Queue(plans, step, reuse)
    queue.finish_ready(tick)
    items = [
        {
            "number": n,
            "spool": str(plan.spool.absolute()),
            "folder": str(plan.place.folder.absolute()),
            "window": plan.place.number,
            "key": plan.place.key,
            "num_rows": plan.num_rows,
            "alone": plan.alone,
        }
        for n, plan in enumerate(plans)
        if plan.num_texts
    ]
    if items:
        with closing(run(items, digest_of(step).hex())) as rows:
            for row in rows:
                if row["error"]:
                    kind, message = json.loads(row["error"])
                    raise getattr(errors, kind)(message)
                queue.arrived(int(row["number"]))
                tick(plans[int(row["number"])].num_rows, int(row["num_tokens"]))
                queue.finish_ready(tick)
    assert queue.is_empty, "a window was lost without a word"


@dataclass(frozen=True, slots=True)
class ProcessRunner:
    """Runs jobs in `workers` processes of `threads` threads each; `load`, which pickle knows, makes each one's step."""

    load: Callable[[], Step]
    workers: int
    threads: int = 1

    def __call__(self, jobs: Iterator[WindowJob], step: Step, reuse: Reuse, tick: Tick) -> None:
        """Do all jobs. Raises what a worker raised, and OutputError where one dies."""
        check_counts(self.workers, self.threads)
        drive(jobs, step, reuse, tick, self._run)

    def _run(self, items: Sequence[Item], digest: str) -> Generator[dict[str, Any], None, None]:
        pool = ProcessPoolExecutor(
            min(self.workers, len(items)),
            multiprocessing.get_context("spawn"),  # a fork of a process with threads hangs
            _begin,
            (self.load, digest, self.threads),
        )
        try:
            for done in as_completed([pool.submit(_do, item) for item in items]):
                yield done.result()
        except BrokenProcessPool as error:
            raise OutputError(
                "a worker process died; finished work is kept: run the same command again, with fewer workers or "
                "batch_tokens if memory ran out"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_worker: "list[Worker]" = []
"""A process's own."""


def _begin(load: Callable[[], Step], digest: str, threads: int) -> None:
    threading.Thread(target=_end_with_driver, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends at once, and says nothing: the driver speaks
    use_threads(threads)
    _worker.append(Worker(load, digest, threads))


def _end_with_driver() -> None:
    """End this process once its driver is gone, however that ended: nobody would take what it makes, or stop it."""
    driver = multiprocessing.parent_process()
    assert driver is not None, "a worker has a driver"
    driver.join()
    os._exit(1)


def _do(item: Item) -> dict[str, Any]:
    answer = _worker[0]({name: np.array([value]) for name, value in item.items()})
    return {name: values[0] for name, values in answer.items()}


@dataclass(frozen=True, slots=True)
class SavedJob:
    """A job whose offsets lie in a file, so that a million of rows wait in little memory."""

    spool: Path
    place: Place
    num_rows: int
    num_texts: int
    alone: bool

    @classmethod
    def save(cls, job: WindowJob) -> "SavedJob":
        """Of a job, whose offsets are written down."""
        np.save(_offsets_file(job.spool), job.texts)
        return cls(job.spool, job.place, job.num_rows, len(job.texts), job.alone)

    def job(self) -> WindowJob:
        """The job again."""
        return WindowJob(self.spool, self.place, self.num_rows, np.load(_offsets_file(self.spool)), self.alone)


class Queue:
    """Finishes, in order, the windows whose shards the actors cannot write."""

    def __init__(self, plans: list[SavedJob], step: Step, reuse: Reuse) -> None:
        self._plans, self._step, self._reuse = plans, step, reuse
        self._arrived = {number for number, plan in enumerate(plans) if not plan.num_texts}
        self._next = 0

    @property
    def is_empty(self) -> bool:
        """Whether all windows are finished."""
        return self._next == len(self._plans)

    def arrived(self, number: int) -> None:
        """Note that a worker has done a window."""
        self._arrived.add(number)

    def finish_ready(self, tick: Tick) -> None:
        """Finish what has arrived, as far as nothing before it is missing."""
        while self._next in self._arrived:
            self._arrived.remove(self._next)
            plan = self._plans[self._next]
            if not plan.num_texts:
                finish(plan.job(), nothing(self._step), self._step, self._reuse)
                tick(plan.num_rows, 0)
            elif not plan.alone:
                finish(plan.job(), _load_output(plan.spool, self._step), self._step, self._reuse)
                _records_file(plan.spool).unlink()
            _offsets_file(plan.spool).unlink(missing_ok=True)
            self._next += 1


class Worker:
    """The actor: one window a call. Errors that a person can mend go back as values, without Ray's wrapping."""

    def __init__(self, load: Callable[[], Step], digest: str, threads: int) -> None:
        self._load, self._digest, self._threads = load, digest, threads
        self._step: Step | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Do the window of a batch of one; number, tokens and error, likewise of one."""
        spool = Path(str(batch["spool"][0]))
        place = Place(Path(str(batch["folder"][0])), int(batch["window"][0]), str(batch["key"][0]))
        num_tokens, error = 0, ""
        try:
            num_tokens = self._one(spool, place, int(batch["num_rows"][0]), alone=bool(batch["alone"][0]))
        except UdeverError as raised:
            error = json.dumps([type(raised).__name__, str(raised)])
        return {"number": [int(batch["number"][0])], "num_tokens": [num_tokens], "error": [error]}

    def _one(self, spool: Path, place: Place, num_rows: int, *, alone: bool) -> int:
        done = shard_of(*place) is not None if alone else _records_file(spool).exists()
        if done:  # a worker that died right after writing it
            return 0
        _count_try(spool)
        step = self._loaded()
        job = WindowJob(spool, place, num_rows, np.load(_offsets_file(spool)), alone)
        num_tokens = 0

        def tick(_: float, num: int) -> None:
            nonlocal num_tokens
            num_tokens += num

        output = do(job, step, tick)
        if alone:
            finish(job, output, step, None)
        else:
            _save_output(spool, output)
        return num_tokens

    def _loaded(self) -> Step:
        if self._step is None:
            self._step = self._load()
            if "torch" in sys.modules:  # a step without a model need not load it for this
                sys.modules["torch"].set_num_threads(self._threads)
            if digest_of(self._step).hex() != self._digest:
                raise ContractError("a worker has another model, precision or udever than the driver; install its own")
        return self._step


def _count_try(spool: Path) -> None:
    """Raise OutputError for a window that has taken several workers with it."""
    with spool.with_suffix(".tries").open("ab") as tries:
        if tries.tell() >= _TRIES:
            raise OutputError(f"{_TRIES} workers died over one window; give them more memory or fewer batch_tokens")
        tries.write(b".")


def _offsets_file(spool: Path) -> Path:
    return spool.with_suffix(".offsets.npy")


def _records_file(spool: Path) -> Path:
    return spool.with_suffix(".records.npz")


def _save_output(spool: Path, output: Output) -> None:
    told = np.frombuffer(json.dumps(list(output.failed.items())).encode(), np.uint8)
    columns: dict[str, Any] = {name: output.rows[name] for name in output.rows.dtype.names or ()}
    with atomic_file(_records_file(spool)) as path, path.open("wb") as file:
        np.savez(file, failed=told, **columns)


def _load_output(spool: Path, step: Step) -> Output:
    with np.load(_records_file(spool)) as saved:
        failed = dict(json.loads(saved["failed"].tobytes()))
        rows = np.empty(len(saved["num_tokens"]), step.columns)
        for name in step.columns.names or ():
            rows[name] = saved[name]
    return Output(rows, failed)
