"""Requests of the largest size: refused or cut before they are tokenised, in bounded memory."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udever.server.bounds import MAX_CONTAINERS, MAX_VALUES, check_values, encode_beginnings
from udever.server.errors import ApiError

LARGE = 15 << 20
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def seedling():
    from udever import Embedder

    return Embedder.load("seedling", device="cpu")


WORDS = st.sampled_from(
    ["copy ", "copyTree", "🤷‍♂️", "किताब", " ", "\n\n", "aaaaaaaa", "[EOQ]", "图书馆", "x.y(z);", "\u200b", "0"]
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(WORDS, min_size=1, max_size=8), st.integers(1, 60_000))
def test_the_beginning_gives_the_same_tokens_as_the_whole(seedling, words, size):
    text = ("".join(words) * (size // len("".join(words)) + 1))[:size]
    tokenizer, limit = seedling.tokenizer, seedling.contract.max_length

    def encode(texts):
        return tokenizer.encode(texts, "query", None)

    whole, part = encode([text, "a"]), encode_beginnings(encode, [text, "a"], limit)
    if len(text) <= 64 * limit:
        assert part.ids == whole.ids
        assert part.truncation.truncated.tolist() == whole.truncation.truncated.tolist()
    assert part.truncation.truncated[0] or part.ids == whole.ids
    assert not part.truncation.truncated[1]


def test_no_more_than_needed_is_read():
    read = []

    class Counted:
        def __call__(self, texts):
            from udever.model.tokens import Tokenized, Truncation

            read.extend(map(len, texts))
            lengths = np.array([len(text) // self.per_token for text in texts])
            return Tokenized([[1]] * len(texts), Truncation(lengths, lengths > 512), 0)

    encode = Counted()
    encode.per_token = 4
    assert encode_beginnings(encode, ["a" * LARGE], 512).truncation.truncated.tolist() == [True]
    assert sum(read) == 16_384
    encode.per_token = 1 << 30  # a text that comes to no token at all is cut, and said to be
    assert encode_beginnings(encode, ["a" * LARGE], 512).truncation.truncated.tolist() == [True]
    assert sum(read) <= 16_384 + 16_384 + 32_768
    assert encode_beginnings(encode, ["a" * 20_000], 512).truncation.truncated.tolist() == [False]


def test_values_are_counted_outside_of_texts():
    check_values(b'{"input": ["' + b"[,]{," * 3_000_000 + b'"]}')
    check_values(b'{"input": ["' + b'\\",[' * 3_000_000 + b'"]}')
    check_values(b'{"input": [' + b"1," * (MAX_VALUES - 10) + b"1]}")
    for bomb in (
        b"[]," * MAX_CONTAINERS,
        b"{}," * MAX_CONTAINERS,
        b"1," * MAX_VALUES,
        b'"",' * MAX_VALUES,
        b"[" * 20_000,
    ):
        with pytest.raises(ApiError) as refused:
            check_values(b'{"input": [' + bomb + b"1]}")
        assert refused.value.status == 400


def test_what_is_listed_and_asked_is_bounded(client):
    for path, body, param in (
        ("/v1/tokens", {"input": ["a" * 40_000] * 2}, "input"),
        ("/v1/search", {"query": "a" * 8193}, "query"),
    ):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    cut = client.post("/v1/embeddings", json={"input": "word " * 100_000, "truncate": "end"}).json()
    assert cut["data"][0]["truncated"] is True
    refused = client.post("/v1/embeddings", json={"input": "word " * 100_000}).json()["error"]
    assert refused["code"] == "context_length_exceeded" and "at least" in refused["message"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The seedling's server with 4 GB of address space and 128 files: (address, process)."""
    tmp_path = tmp_path_factory.mktemp("small")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("def add(a, b):\n    return a + b\n")
    command = "udever index src -m seedling -o index >/dev/null && exec udever serve -m seedling --index index --port 0"
    command = command.replace("udever ", f"{sys.executable} -m udever ")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "2"}
    with subprocess.Popen(
        ["bash", "-c", f"ulimit -v 4000000; ulimit -n 128; {command}"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        address = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
        assert address
        while True:
            try:
                if httpx.get(f"{address[0]}/ready").status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None
            time.sleep(0.05)
        yield address[0], process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def peak_bytes(process):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[1]) << 10


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's")
def test_the_largest_requests_stay_within_what_is_promised(small):
    """docs/serving.md: at most 300 MB for one request over what the server holds at rest; health within a second."""
    address, process = small
    before = peak_bytes(process)
    slowest, done = [0.0], threading.Event()

    def watch():
        with httpx.Client(base_url=address, timeout=20) as client:
            while not done.is_set():
                start_s = time.monotonic()
                assert client.get("/health").status_code == 200
                slowest[0] = max(slowest[0], time.monotonic() - start_s)
                done.wait(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    text = b"a" * LARGE
    bodies = {
        "/v1/embeddings": [
            b'{"truncate": "end", "input": "' + text + b'"}',
            b'{"truncate": "end", "input": "' + b"word, " * (LARGE // 6) + b'"}',
            b'{"truncate": "end", "input": "' + "🤷".encode() * (LARGE // 4) + b'"}',
            b'{"input": [' + b"[]," * (LARGE // 3) + b"[]]}",
            b'{"input": [' + b"1," * (LARGE // 2) + b"1]}",
            b'{"input": [' + b'"",' * (LARGE // 3) + b'""]}',
            b'{"x": ' + b'{"a":' * (LARGE // 5),
        ],
        "/v1/search": [b'{"query": "' + text + b'"}', b'{"mode": "words", "query": "' + b"ab " * (LARGE // 3) + b'"}'],
        "/v1/tokens": [b'{"input": "' + text + b'"}'],
        "/v1/rerank": [b'{"query": "' + text + b'", "documents": ["a"]}'],
        "/v1/texts": [b'{"ids": ["' + text + b'"]}'],
        "/v1/similarity": [b'{"input": ["' + text + b'"]}'],
    }
    with httpx.Client(base_url=address, timeout=60) as client:
        for path, several in bodies.items():
            for body in several:
                answer = client.post(path, content=body, headers=JSON)
                assert answer.status_code in (200, 400, 422), (path, body[:40], answer.text[:200])
    done.set()
    watcher.join()
    assert peak_bytes(process) - before < 300_000_000
    assert slowest[0] < 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's")
def test_hostile_requests_in_little_room(small):
    """A short run of bench/hostile.py; 100,000 requests are that script's own business."""
    place = Path(__file__).parents[2] / "bench" / "hostile.py"
    spec = importlib.util.spec_from_file_location("hostile", place)
    hostile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hostile)
    address, process = small
    found = hostile.attack(address, process.pid, 300, document=False)
    assert found["server_errors"] == found["health_failed"] == 0, found
    assert {200, 400, 422, 431} <= set(found["statuses"]), found
