"""The same jobs on Ray Data: a fixed pool of actors, a model loaded once in each, resumable by the same keys.

Every machine must see the output folder under the same path; `workers` has what driver and actors do.
"""

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from udever.corpus.job import Runner, run_here
from udever.corpus.shards import Reuse, WindowJob
from udever.corpus.step import Step, Tick
from udever.corpus.workers import Item, ProcessRunner, Worker, check_counts, drive
from udever.errors import OutputError, first_line, needs

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

    def __call__(self, jobs: Iterator[WindowJob], step: Step, reuse: Reuse, tick: Tick) -> None:
        """Do all jobs. Raises what a worker raised, and OutputError where Ray itself gives up."""
        check_counts(self.workers, self.threads)
        drive(jobs, step, reuse, tick, self._run)

    def _run(self, items: Sequence[Item], digest: str) -> Generator[Item, None, None]:
        with _ray(self) as ray:
            try:
                yield from (
                    ray.data.from_items(items, override_num_blocks=len(items))
                    .map(
                        Worker,
                        compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(items))),
                        fn_constructor_kwargs={"load": self.load, "digest": digest, "threads": self.threads},
                        num_cpus=self.threads,
                        num_gpus=self.gpus,
                    )
                    .iter_rows()
                )
            except ray.exceptions.RayError as error:
                reason = (str(error).strip().splitlines() or ["unknown"])[-1]
                raise OutputError(f"Ray failed ({reason}); finished work stays: run the same command again") from error


def runner_for(load: Callable[[], Step], address: str | None, workers: int, threads: int, gpus: float) -> Runner:
    """This process, or so many; where an `address` is given, Ray."""
    check_counts(workers, threads)
    if address is not None:
        return RayRunner(load, address, workers, threads, gpus)
    return run_here if workers == 1 else ProcessRunner(load, workers, threads)


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
            raise OutputError(
                f"no Ray at {runner.address}: {first_line(error)}; give host:port, auto or local"
            ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()
