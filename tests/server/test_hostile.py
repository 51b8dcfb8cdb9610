"""Whatever comes over the wire: no 5xx, no text of one request in another's answer, nothing left behind."""

import gc
import os
import random
import socket
import string
from pathlib import Path

import httpx
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi import checks as openapi_checks

from udever.server.endpoints import ENDPOINTS

PATHS = [endpoint.path for endpoint in ENDPOINTS]
SECRET = "zq-only-in-this-text-qz"
JSON = {"Content-Type": "application/json"}
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.unsupported_method,
]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_the_server_keeps_to_its_own_document(mode, server):
    document = schemathesis.openapi.from_url(f"{server[0]}/openapi.json")
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) >= 15
    for operation in operations:
        if mode == schemathesis.GenerationMode.NEGATIVE and operation.method == "get":
            continue  # there is next to nothing to get wrong

        @settings(max_examples=5, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            case.call_and_validate(checks=CHECKS)

        check()


WORDS = ["a", "", SECRET, "\x00", "é" * 300, "🤷‍♂️", "[EOQ]</s>", "x" * 5000, "\u202e", "%s%n", "../../etc"]
NUMBERS = [0, -1, 1, 2**31, 2**63, 10**40, 1.5, -0.0, 1e308, 419, 420]
NAMES = ["input", "model", "query", "documents", "dimensions", "encoding_format", "top_n", "ids", "input_type", "x"]


def hostile_value(rng, depth=0):
    """Some JSON value, rarely the right one."""
    kind = rng.randrange(8 if depth < 4 else 4)
    if kind == 0:
        return rng.choice(WORDS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice([None, True, False])
    if kind == 3:
        return "".join(rng.choices(string.printable, k=rng.randrange(40)))
    if kind < 6:
        return [hostile_value(rng, depth + 1) for _ in range(rng.randrange(6))]
    return {rng.choice(NAMES): hostile_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def nearly_right(rng):
    """A request that is right but for one value, or right."""
    body = {
        "input": rng.choice([rng.choice(WORDS), [rng.choice(WORDS) for _ in range(3)], [5, 9, 300], [[5], [9, 9]]]),
        "truncate": "end",
    }
    if rng.random() < 0.7:
        body[rng.choice(NAMES)] = hostile_value(rng, 3)
    return body


def hostile_body(rng):
    """Bytes of a body: JSON of some kind, or JSON with a byte wrong, or noise."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return rng.choice([b"[", b"{", b'{"a":', b'"', b'{"input":[']) * rng.randrange(1, 5000)
    value = nearly_right(rng) if kind < 5 else hostile_value(rng)
    body = _dumps(value)
    if rng.random() < 0.3 and body:
        place = rng.randrange(len(body))
        body = body[:place] + rng.randbytes(1) + body[place + 1 :]
    return body


def _dumps(value):
    import json

    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("seed", range(4))
def test_hostile_bodies_get_no_server_error_and_leave_nothing(seed, client, server):
    """A thousand in all, or as many as UDEVER_HOSTILE_BODIES says."""
    rng = random.Random(seed)
    statuses = set()
    for _ in range(int(os.environ.get("UDEVER_HOSTILE_BODIES", "1000")) // 4):
        body = hostile_body(rng)
        answer = client.post(rng.choice(PATHS), content=body, headers=JSON)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, (body, answer.text)
        orjson.loads(answer.content)
        if SECRET.encode() not in body:
            assert SECRET not in answer.text
    assert {200, 400, 422} <= statuses
    service = server[1]
    assert (service.batcher.held_tokens, service.batcher.num_jobs, len(service._planner)) == (0, 0, 0)
    assert "udever_held_bytes 0.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: abc\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /v1/models/%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_what_is_hardly_http_does_no_harm(raw, server, client):
    host, port = server[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        while part := connection.recv(65536):
            reply += part
    assert not reply.startswith(b"HTTP/1.1 5")
    assert client.get("/health").status_code == 200


def test_a_body_that_never_comes_is_given_up(serve):
    with serve(body_timeout_s=0.2) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert "udever_held_bytes 0.0" in httpx.get(f"{address}/metrics").text


def test_memory_stays_flat(client):
    """Python objects and resident memory over some hundred requests of every kind."""

    def resident_bytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def some(number):
        rng = random.Random(7)
        for _ in range(number):
            client.post("/v1/embeddings", json={"input": [f"text {rng.random()}"] * rng.randrange(1, 9)})
            client.post("/v1/rerank", json={"query": "a", "documents": ["b", "c"]})
            client.post("/v1/embeddings", content=b"{", headers=JSON)

    some(30)
    gc.collect()
    num_objects, size_bytes = len(gc.get_objects()), resident_bytes()
    some(30)
    gc.collect()
    assert len(gc.get_objects()) - num_objects < 1000
    assert resident_bytes() - size_bytes < 32 << 20
