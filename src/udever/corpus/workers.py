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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from udever import errors
from udever.corpus.shards import Reuse, WindowJob, finish, nothing, shard_of, texts_of
from udever.corpus.step import Output, Step, Tick, digest_of
from udever.errors import ContractError, OutputError, RecipeError, UdeverError
from udever.processors import use_threads
from udever.storage import atomic_file

_TRIES = 4  # Ray would try a window that kills its worker for ever

Item = dict[str, Any]
"""What a worker is told of a window, and what it says of it: numbers and strings by their names."""
Run = Callable[[Sequence[Item], str], Generator[Item, None, None]]
"""Has workers do the windows, whose step must have that digest; gives what each says, in any order."""


def check_counts(workers: int, threads: int) -> None:
    """Raise RecipeError unless there is at least one of each."""
    if workers < 1 or threads < 1:
        raise RecipeError(f"workers is {workers}, threads {threads}; expected at least 1")


def drive(jobs: Iterator[WindowJob], step: Step, reuse: Reuse, tick: Tick, run: Run) -> None:
    """Have workers do all jobs, and finish what they may not. Raises what a worker raised."""
    plans = list(jobs)
    arrived = {place for place, job in enumerate(plans) if not job.num_texts}
    num_finished = 0

    def finish_ready() -> None:
        """Finish, in order, what has arrived, as far as nothing before it is missing."""
        nonlocal num_finished
        while num_finished in arrived:
            job = plans[num_finished]
            if not job.num_texts:
                finish(job, nothing(step), step, reuse)
                tick(job.num_rows, 0)
            elif not job.alone:
                finish(job, _load_output(job.spool), step, reuse)
                _records_file(job.spool).unlink()
            num_finished += 1

    finish_ready()
    items = [
        {**asdict(job), "job": place, "spool": str(job.spool.absolute()), "folder": str(job.folder.absolute())}
        for place, job in enumerate(plans)
        if job.num_texts
    ]
    if items:
        with closing(run(items, digest_of(step).hex())) as rows:
            for row in rows:
                if row["error"]:
                    kind, message = json.loads(row["error"])
                    raise getattr(errors, kind)(message)
                arrived.add(row["job"])
                tick(plans[row["job"]].num_rows, row["num_tokens"])
                finish_ready()
    assert num_finished == len(plans), "a window was lost without a word"


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

    def _run(self, items: Sequence[Item], digest: str) -> Generator[Item, None, None]:
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


def _do(item: Item) -> Item:
    return _worker[0](item)


class Worker:
    """The actor: one window a call. Errors that a person can mend go back as values, without Ray's wrapping."""

    def __init__(self, load: Callable[[], Step], digest: str, threads: int) -> None:
        self._load, self._digest, self._threads = load, digest, threads
        self._step: Step | None = None

    def __call__(self, item: Item) -> Item:
        """Do a window; the job's place in the queue, the tokens and the error."""
        values: Item = {name: value for name, value in item.items() if name != "job"}
        values |= {"spool": Path(item["spool"]), "folder": Path(item["folder"])}
        job = WindowJob(**values)
        num_tokens, error = 0, ""
        try:
            num_tokens = self._one(job)
        except UdeverError as raised:
            error = json.dumps([type(raised).__name__, str(raised)])
        return {"job": item["job"], "num_tokens": num_tokens, "error": error}

    def _one(self, job: WindowJob) -> int:
        done = shard_of(job.folder, job.number, job.key) is not None if job.alone else _records_file(job.spool).exists()
        if done:  # a worker that died right after writing it
            return 0
        _count_try(job.spool)
        step = self._loaded()
        num_tokens = 0

        def tick(_: float, num: int) -> None:
            nonlocal num_tokens
            num_tokens += num

        output = step.run(step.prepare(texts_of(job)), tick)
        if job.alone:
            finish(job, output, step, None)
        else:
            _save_output(job.spool, output)
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


def _records_file(spool: Path) -> Path:
    return spool.with_suffix(".records.npz")


def _save_output(spool: Path, output: Output) -> None:
    failed = np.frombuffer(json.dumps(list(output.failed.items())).encode(), np.uint8)
    with atomic_file(_records_file(spool)) as path, path.open("wb") as file:
        np.savez(file, rows=output.rows, failed=failed)


def _load_output(spool: Path) -> Output:
    with np.load(_records_file(spool)) as saved:
        return Output(saved["rows"], dict(json.loads(saved["failed"].tobytes())))
