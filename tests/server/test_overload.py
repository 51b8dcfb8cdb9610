"""Too much at once, clients that leave, and the end: nothing that was accepted is lost."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import orjson
import pytest


class Gate:
    """Lets no batch through until it is opened."""

    def __init__(self):
        self.open = threading.Event()
        self.num_texts = 0

    def __call__(self, service):
        encode = service.batcher._encode

        def gated(sequences, skip):
            assert self.open.wait(30)
            self.num_texts += len(sequences)
            return encode(sequences, skip)

        service.batcher._encode = gated


def wait_for(condition):
    for _ in range(4000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not happen")


def test_overload_is_refused_with_a_time_and_loses_nothing_that_was_accepted(serve):
    gate = Gate()

    async def flood(address, service):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            texts = [f"text number {number}" for number in range(120)]
            tasks = [asyncio.create_task(client.post("/v1/embeddings", json={"input": [text] * 4})) for text in texts]
            while sum(task.done() for task in tasks) < 60:  # the refused ones come back at once
                await asyncio.sleep(0.01)
            metrics = (await client.get("/metrics")).text
            gate.open.set()
            return texts, await asyncio.gather(*tasks), metrics

    with serve(queue_tokens=600, request_tokens=600, prepare=gate) as (address, service):
        texts, answers, metrics = asyncio.run(flood(address, service))
        expected = service.embedder.encode(texts)
        held = float(re.search(r"^udever_queue_tokens (\S+)", metrics, re.MULTILINE)[1])
        assert 0 < held <= 600
    by_status = {status: [a for a in answers if a.status_code == status] for status in (200, 429)}
    assert len(by_status[200]) + len(by_status[429]) == 120
    assert len(by_status[200]) >= 5
    assert len(by_status[429]) >= 60
    for refused in by_status[429]:
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
    for vector, answer in zip(expected, answers, strict=True):
        if answer.status_code == 200:
            rows = np.array([row["embedding"] for row in answer.json()["data"]])
            np.testing.assert_allclose(rows, np.stack([vector] * 4), atol=1e-5)


def test_too_many_bytes_at_once_are_refused(serve):
    gate = Gate()
    with serve(held_bytes=3000, prepare=gate) as (address, service), httpx.Client(base_url=address) as client:

        def send():
            httpx.post(f"{address}/v1/embeddings", json={"input": "word " * 500, "truncate": "end"}, timeout=60)

        first = threading.Thread(target=send)
        first.start()
        wait_for(lambda: service.batcher.num_jobs == 1)
        refused = client.post("/v1/embeddings", json={"input": "word " * 500, "truncate": "end"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        gate.open.set()
        first.join()
        assert client.post("/v1/embeddings", json={"input": "word"}).status_code == 200


def test_a_client_that_leaves_is_not_worked_for(serve):
    gate = Gate()
    with serve(prepare=gate) as (address, service), httpx.Client(base_url=address, timeout=60) as client:
        host, port = address.removeprefix("http://").split(":")
        body = orjson.dumps({"input": ["some text"] * 500})
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}"
        holder = threading.Thread(target=lambda: client.post("/v1/embeddings", json={"input": "first"}))
        holder.start()
        wait_for(lambda: service.batcher.num_jobs == 1)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            wait_for(lambda: service.batcher.num_jobs == 2)
        wait_for(lambda: service.batcher.num_jobs == 1)
        gate.open.set()
        holder.join()
        assert client.post("/v1/embeddings", json={"input": "last"}).status_code == 200
        assert gate.num_texts == 2
        assert "udever_cancelled_requests_total 1.0" in client.get("/metrics").text
        assert service.batcher.held_tokens == 0


def test_what_takes_too_long_is_given_up(serve):
    gate = Gate()
    with serve(timeout_s=0.3, prepare=gate) as (address, service), httpx.Client(base_url=address) as client:
        answer = client.post("/v1/embeddings", json={"input": ["a"] * 3})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        gate.open.set()
        wait_for(lambda: service.batcher.held_tokens == 0)
        assert client.post("/v1/embeddings", json={"input": "a"}).status_code == 200


def test_a_broken_worker_shows(serve):
    def breaking(service):
        def die(sequences, skip):
            raise SystemExit

        service.batcher._encode = die

    with serve(prepare=breaking) as (address, _), httpx.Client(base_url=address) as client:
        assert client.post("/v1/embeddings", json={"input": "a"}).status_code == 503
        assert client.get("/health").status_code == 503
        assert client.get("/ready").status_code == 503


@pytest.fixture
def process(decoders, tmp_path):
    """`udever serve` as a process of its own: (process, address, headers with its key)."""
    keys = tmp_path / "keys"
    keys.write_text("# who may\nfirst-key-123  # a comment\n\nsecond-key-456\n")
    keys.chmod(0o600)
    command = [
        sys.executable,
        "-m",
        "udever",
        "serve",
        "-m",
        str(decoders("bloom")),
        "--port",
        "0",
        "--keys",
        str(keys),
    ]
    command += ["--name", "tiny", "--dtype", "float32", "--device", "cpu", "--batch-tokens", "64"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        line = running.stdout.readline()
        address = re.search(r"http://[\d.]+:\d+", line)
        assert address, line + running.stderr.read()
        headers = {"Authorization": "Bearer second-key-456"}
        wait_for(lambda: _is_ready(address[0]))
        yield running, address[0], headers
        running.kill()


def _is_ready(address):
    try:
        return httpx.get(f"{address}/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_sigterm_under_load_answers_what_was_accepted(process):
    running, address, headers = process
    outcomes, num_before = [], []

    async def one(client, number):
        answer = await client.post("/v1/embeddings", json={"input": [f"text {number}"] * 80})
        outcomes.append((answer.status_code, len(answer.json().get("data", []))))

    async def load():
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60, limits=limits) as client:
            tasks = [asyncio.create_task(one(client, number)) for number in range(40)]
            taken = 0
            while taken < 40:
                text = (await client.get("/metrics")).text
                taken = float(re.search(r"^udever_open_requests (\S+)", text, re.MULTILINE)[1]) + len(outcomes)
            running.send_signal(signal.SIGTERM)
            num_before.append(len(outcomes))
            await asyncio.gather(*tasks)

    assert httpx.post(f"{address}/v1/embeddings", json={"input": "a"}).status_code == 401
    asyncio.run(load())
    assert running.wait(30) == 0
    assert "Traceback" not in running.stderr.read()
    assert num_before[0] < 40, "all was over before the signal"
    assert outcomes == [(200, 80)] * 40
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")
