"""The same jobs on Ray Data: a fixed pool of actors, a model loaded once in each, resumable by the same keys.

The driver reads, plans and spools; the actors read spooled windows from the output folder, which every machine
must see under the same path. A window that shares no text with others is finished where it was embedded; of
the rest the actor leaves the records in the work folder and the driver finishes them in order.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from udever import errors
from udever.corpus.job import Runner, run_here
from udever.corpus.shards import shard_of
from udever.corpus.steps import Output, Step, Tick, digest_of
from udever.corpus.windows import Job, Place, Reuse, do, finish, nothing
from udever.errors import ContractError, OutputError, RecipeError, UdeverError, needs
from udever.storage import atomic_file

_TRIES = 4  # Ray would try a window that kills its worker for ever
_CONNECT_S = 10
_OBJECT_STORE_BYTES = 200 << 20  # only names and counts pass through it


@dataclass(frozen=True, slots=True)
class RayRunner:
    """Runs jobs on `workers` Ray actors of `threads` threads each, at `address` or, for "local", here.

    `load` makes the step in an actor. A worker that dies is replaced and its window done again.
    """

    load: Callable[[], Step]
    address: str = "local"
    workers: int = 1
    threads: int = 1
    gpus: float = 0

    def __call__(self, jobs: Iterator[Job], step: Step, reuse: Reuse, tick: Tick) -> None:
        """Do all jobs. Raises what a worker raised, and OutputError where Ray itself gives up."""
        if self.workers < 1 or self.threads < 1:
            raise RecipeError(f"workers is {self.workers}, threads {self.threads}; expected at least 1")
        plans = [_Plan.save(job) for job in jobs]
        if not plans:
            return
        queue = _Queue(plans, step, reuse)
        queue.finish_ready(tick)
        with _ray(self) as ray:
            try:
                for row in self._results(ray, plans, step):
                    if row["error"]:
                        kind, message = json.loads(row["error"])
                        raise getattr(errors, kind)(message)
                    queue.arrived(int(row["number"]))
                    tick(plans[int(row["number"])].num_rows, int(row["num_tokens"]))
                    queue.finish_ready(tick)
            except ray.exceptions.RayError as error:
                reason = (str(error).strip().splitlines() or ["unknown"])[-1]
                raise OutputError(f"Ray gave up ({reason}); what is done stays: run the same command again") from error
        assert queue.is_empty, "Ray lost a window without a word"

    def _results(self, ray: Any, plans: list["_Plan"], step: Step) -> Iterator[dict[str, Any]]:
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
        if not items:
            return
        made = {"load": self.load, "digest": digest_of(step).hex(), "threads": self.threads}
        yield from (
            ray.data.from_items(items, override_num_blocks=len(items))
            .map_batches(
                _Worker,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(items))),
                fn_constructor_kwargs=made,
                num_cpus=self.threads,
                num_gpus=self.gpus,
            )
            .iter_rows()
        )


def runner_for(load: Callable[[], Step], address: str | None, workers: int, threads: int, gpus: float) -> Runner:
    """This process, or where an `address` is given, Ray."""
    return run_here if address is None else RayRunner(load, address, workers, threads, gpus)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A job whose offsets lie in a file, so that a million of rows wait in little memory."""

    spool: Path
    place: Place
    num_rows: int
    num_texts: int
    alone: bool

    @classmethod
    def save(cls, job: Job) -> "_Plan":
        np.save(_offsets_file(job.spool), job.texts)
        return cls(job.spool, job.place, job.num_rows, len(job.texts), job.alone)

    def job(self) -> Job:
        return Job(self.spool, self.place, self.num_rows, np.load(_offsets_file(self.spool)), self.alone)


class _Queue:
    """Finishes, in order, the windows whose shards the actors cannot write."""

    def __init__(self, plans: list[_Plan], step: Step, reuse: Reuse) -> None:
        self._plans, self._step, self._reuse = plans, step, reuse
        self._arrived = {number for number, plan in enumerate(plans) if not plan.num_texts}
        self._next = 0

    @property
    def is_empty(self) -> bool:
        return self._next == len(self._plans)

    def arrived(self, number: int) -> None:
        self._arrived.add(number)

    def finish_ready(self, tick: Tick) -> None:
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


class _Worker:
    """The actor: one window a call. Errors that a person can mend go back as values, without Ray's wrapping."""

    def __init__(self, load: Callable[[], Step], digest: str, threads: int) -> None:
        self._load, self._digest, self._threads = load, digest, threads
        self._step: Step | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
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
        job = Job(spool, place, num_rows, np.load(_offsets_file(spool)), alone)
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
                raise ContractError("a worker's model, precision or udever is not the driver's; install the same there")
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


def _check_reachable(address: str) -> None:
    """Raise OutputError where nobody answers at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise OutputError(f"no Ray at {address}: {error}; give host:port, auto or local") from error


@contextmanager
def _without_api_server() -> Iterator[None]:
    """Ray begins no API server in the block.

    Without a dashboard it would serve usage statistics alone; and even where these are off, it asks the address where
    clouds describe their machines (169.254.169.254).
    """
    from ray._private import services

    start = getattr(services, "start_api_server", None)
    if start is None:  # a Ray that is built otherwise
        yield
        return
    services.start_api_server = lambda *_, **__: (None, None)
    try:
        yield
    finally:
        services.start_api_server = start


@contextmanager
def _ray(runner: RayRunner) -> Iterator[Any]:
    """Ray, started or joined for the block, without telemetry, dashboard or its own bars."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with needs("ray[data]", "ray", "a job on Ray"):
        import ray
        import ray.data
    local = runner.address == "local"
    _check_reachable(runner.address)
    started = not ray.is_initialized()
    if started:
        here = (
            {
                "num_cpus": runner.workers * runner.threads,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "_node_ip_address": "127.0.0.1",  # else it looks for its own by a way out to the network
            }
            if local
            else {}
        )
        try:
            with _without_api_server():
                ray.init(runner.address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or ["unknown"])[0]
            raise OutputError(f"no Ray at {runner.address}: {reason}; give host:port, auto or local") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()
