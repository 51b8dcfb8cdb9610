"""Hostile requests by the thousand against a server with little room: 4 GB of address space, 128 open files.

    python bench/hostile.py --requests 100000

A request in ten comes from the OpenAPI document (schemathesis), most are real ones with something changed, some are no
HTTP, are cut off, or dawdle on connections of their own. Fails on an answer of 500 and above but 503, on a process
that ended, on memory that grew by more than 5 % over the last nine tenths, on a health check of a second or more.
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

PATHS = ["embeddings", "rerank", "search", "texts", "tokens", "similarity", "classify", "moderations"]
REAL: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"input": ["copy a tree", "Wie lese ich eine Datei?"], "truncate": "end"}),
    ("/v1/embeddings", {"input": [[5, 300, 7]], "encoding_format": "base64", "dimensions": 32}),
    ("/v1/rerank", {"query": "sum", "documents": ["a", {"text": "b"}], "top_n": 1}),
    ("/v1/search", {"query": "add two", "top_k": 5, "mode": "both", "paths": ["src/**"], "languages": ["python"]}),
    ("/v1/texts", {"ids": ["0" * 32, "a"]}),
    ("/v1/tokens", {"input": "copyTree_v2", "input_type": "query"}),
    ("/v1/similarity", {"input": ["a", "b"], "documents": ["c"]}),
]
ODD = [
    "",
    "\x00",
    "a" * 9000,
    "é🤷‍♂️" * 200,
    "\u202e",
    "[EOQ]</s>",
    "?*" * 200 + "Z",
    "**/" * 300,
    "!",
    "[" * 500,
    "' OR 1=1",
]
ODD += [-1, 0, 2**63, 10**40, 1e308, None, True, [], {}, [[]], ["a", 3], [[1] * 3000], ["a"] * 3000, {"text": "a"}]


class Hostile:
    """Sends requests and counts what comes back; `document` says whether schemathesis' share is sent."""

    def __init__(self, address: str, seed: int, *, document: bool) -> None:
        self.address = address
        self.host, port = address.removeprefix("http://").split(":")
        self.port = int(port)
        self.random = random.Random(seed)
        self.statuses: Counter[int] = Counter()
        self.held: list[socket.socket] = []
        self.client = httpx.Client(base_url=address, timeout=60)
        self.cases: list[Callable[[], int]] = list(_cases(address, self.client)) if document else []

    def close(self) -> None:
        """Close all connections."""
        self.client.close()
        for connection in self.held:
            connection.close()

    def one(self) -> None:
        """One request of some kind."""
        draw = self.random.random()
        if self.cases and draw < 0.1:
            status = self.random.choice(self.cases)()
        elif draw < 0.75:
            status = self._mutated()
        elif draw < 0.9:
            status = self._raw(self._bytes())
        else:
            status = self._cut()
        self.statuses[status] += 1

    def _mutated(self) -> int:
        path, body = self.random.choice(REAL)
        body = dict(body)
        for _ in range(self.random.randrange(3)):
            name = self.random.choice([*body, "input", "query", "x", "instruction", "kinds"])
            body[name] = self.random.choice(ODD)
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if self.random.random() < 0.2 and content:
            place = self.random.randrange(len(content))
            content = content[:place] + self.random.randbytes(1) + content[place + 1 :]
        headers = {"Content-Type": "application/json"}
        if self.random.random() < 0.1:
            headers |= self.random.choice(
                [
                    {"Host": "evil.example"},
                    {"Origin": "null"},
                    {"Content-Type": "text/plain"},
                    {"Expect": "100-continue"},
                ]
            )
        if self.random.random() < 0.1:
            path = f"/{self.random.choice(['v1', 'v2', '..', '%00', 'page'])}/{self.random.choice(PATHS)}"
        method = self.random.choice(["POST"] * 9 + ["PUT", "GET", "HEAD", "OPTIONS", "DELETE"])
        try:
            return self.client.request(method, path, content=content, headers=headers).status_code
        except httpx.TransportError:
            return 0

    def _bytes(self) -> bytes:
        head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return self.random.choice(
            [
                self.random.randbytes(200),
                head + b"Content-Length: -1\r\n\r\n",
                head + b"X: " + b"a" * 80_000 + b"\r\n\r\n",
                head + b"A: b\r\n" * 12_000 + b"\r\n",
                head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                head + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 90_000 + b"\r\n{\r\n",
                head + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n",
                b"GET /health HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
                b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ]
        )

    def _raw(self, data: bytes) -> int:
        with suppress(OSError), socket.create_connection((self.host, self.port), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            found = re.match(rb"HTTP/1.1 (\d+)", connection.recv(4096))
            return int(found[1]) if found else 0
        return 0

    def _cut(self) -> int:
        """A connection left open in the middle of a request; up to 200 at once."""
        with suppress(OSError):
            connection = socket.create_connection((self.host, self.port), timeout=20)
            self.held.append(connection)
            connection.sendall(self._bytes()[: self.random.randrange(1, 120)])
        while len(self.held) > 200 or (self.held and self.random.random() < 0.3):
            self.held.pop(self.random.randrange(len(self.held))).close()
        return 0


def _cases(address: str, client: httpx.Client, per_operation: int = 20) -> Iterator[Callable[[], int]]:
    """Requests that schemathesis derives from the document, right and wrong ones."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    made: list[Any] = []
    for result in schemathesis.openapi.from_url(f"{address}/openapi.json").get_all_operations():
        operation: Any = result.ok()  # pyright: ignore[reportAttributeAccessIssue]
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=per_operation, database=None, deadline=None, suppress_health_check=list(HealthCheck))  # pyright: ignore
            @given(case=operation.as_strategy(generation_mode=mode))
            def collect(case: Any) -> None:
                made.append(case)

            with suppress(Exception):  # a GET without parameters has no wrong form
                collect()
    for case in made:
        yield lambda case=case: int(case.call().status_code)


def resident_bytes(pid: int) -> int:
    """The process' memory."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) << 10  # pyright: ignore


def attack(address: str, pid: int, count: int, *, seed: int = 0, document: bool = True) -> dict[str, Any]:
    """`count` hostile requests; what came back, memory after a tenth and at the end, the slowest health check."""
    hostile = Hostile(address, seed, document=document)
    slowest, failed, done = [0.0], [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            start_s = time.monotonic()
            try:
                failed[0] += httpx.get(f"{address}/health", timeout=20).status_code != 200
            except httpx.TransportError:
                failed[0] += 1
            slowest[0] = max(slowest[0], time.monotonic() - start_s)

    watcher = threading.Thread(target=watch)
    watcher.start()
    memory: list[int] = []
    try:
        for number in range(count):
            hostile.one()
            if number >= count // 10 and number % max(1, count // 100) == 0:
                memory.append(resident_bytes(pid))
    finally:
        done.set()
        watcher.join()
        hostile.close()
    tenth = max(1, len(memory) // 10)
    return {
        "statuses": dict(sorted(hostile.statuses.items())),
        "server_errors": sum(n for status, n in hostile.statuses.items() if status >= 500 and status != 503),
        "growth": sum(memory[-tenth:]) / sum(memory[:tenth]) - 1,
        "health_slowest_s": slowest[0],
        "health_failed": failed[0],
    }


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """The seedling over a small index, with 4 GB of address space and 128 files: its address and process."""
    (folder / "src").mkdir()
    (folder / "src" / "a.py").write_text("def add(a, b):\n    return a + b\n")
    udever = f"{sys.executable} -m udever"
    command = f"ulimit -v 4000000; ulimit -n 128; {udever} index src -m seedling -o index >/dev/null 2>&1 && "
    command += f"exec {udever} serve -m seedling --index index --port 0 2>log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "2"}
    started = ["bash", "-c", command]
    with subprocess.Popen(started, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
        assert address is not None, "the server did not start"
        while True:
            with suppress(httpx.TransportError):
                if httpx.get(f"{address[0]}/ready").status_code == 200:
                    break
            time.sleep(0.05)
        yield address[0], process.pid
        assert process.poll() is None, "the server ended"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def main() -> None:
    """Run it and print the figures; the exit status says whether all held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (address, pid):
        start_s = time.monotonic()
        found = attack(address, pid, options.requests, seed=options.seed)
        found |= {"seconds": time.monotonic() - start_s, "log_bytes": (Path(folder) / "log").stat().st_size}
    print(json.dumps(found, indent=2))
    held = found["server_errors"] == found["health_failed"] == 0
    sys.exit(not (held and found["growth"] < 0.05 and found["health_slowest_s"] < 1))


if __name__ == "__main__":
    main()
