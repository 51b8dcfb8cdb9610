"""Connections that are slow, silent, endless or too many."""

import json
import re
import socket
import time
from contextlib import suppress

import httpx
import pytest

POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def connected(address, timeout=20):
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=timeout)


def all_of(connection):
    reply = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            reply += part
    return reply


def told(reply):
    """Status and code of a refusal, which must have the documented shape."""
    head, _, body = reply.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert b"content-type: application/json" in head.lower()
    return int(head.split()[1]), error["code"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (POST + b"A: b\r\n" * 20_000 + b"\r\n", 431),
        (POST + b"X: " + b"a" * 700_000, 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n" + b"A: b\r\n" * 20_000, 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nA: " + b"b" * 700_000, 431),
    ],
)
def test_what_is_no_request_is_refused_in_the_shape_of_all_errors(raw, status, server):
    with connected(server[0]) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(raw)
        assert told(all_of(connection))[0] == status


def test_heads_of_many_requests_in_one_piece_are_not_one_large_head(server):
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(server[0]) as connection:
        connection.sendall(one * 4000 + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert all_of(connection).count(b"HTTP/1.1 200") == 4001


def test_a_head_that_dawdles_and_a_silent_connection_end(serve):
    with serve(head_timeout_s=0.3) as (address, _), connected(address) as silent, connected(address) as slow:
        start_s = time.monotonic()
        slow.sendall(b"GET /health HTT")
        assert told(all_of(slow)) == (408, "timeout")
        assert all_of(silent) == b""
        with connected(address) as blank:  # blank lines do not count as a request
            blank.sendall(b"\r\n")
            assert told(all_of(blank))[0] == 408
        assert time.monotonic() - start_s < 8


def test_a_body_must_keep_coming(serve, monkeypatch):
    monkeypatch.setattr("udever.server.admission._GRACE_S", 0.2)
    with serve(rate_bytes_s=1000.0) as (address, _), connected(address) as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n" + b" " * 100)
        start_s = time.monotonic()
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - start_s < 5


def test_a_body_announced_too_large_is_refused_before_it_is_sent(serve, server):
    with serve(head_timeout_s=0.3) as (address, _), connected(address) as connection:
        connection.sendall(POST + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        reply = all_of(connection)  # until the server has waited long enough for the rest and closes
        assert reply.startswith(b"HTTP/1.1 413") and told(reply)[1] == "body_too_large"
    with connected(server[0]) as connection:
        connection.sendall(POST + b"Content-Length: 14\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(b'{"input": "a"}')
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_refused_body_that_never_ends_and_an_answer_never_read_are_hung_up_on(serve):
    with serve(keys=["key-number-1"], head_timeout_s=0.3, rate_bytes_s=1e9) as (address, _):
        with connected(address) as connection:  # without a key: answered at once, the body unread
            connection.sendall(POST + b"Content-Length: 1000\r\n\r\n{")
            assert all_of(connection).startswith(b"HTTP/1.1 401")
        with connected(address) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = json.dumps({"input": ["a"] * 2000}).encode()
            key = b"Authorization: Bearer key-number-1\r\n"
            for _ in range(40):
                connection.sendall(POST + key + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            wanted = 'udever_refused_connections_total{reason="answer not read"} 1.0'
            for _ in range(200):
                if wanted in httpx.get(f"{address}/metrics").text:
                    break
                time.sleep(0.1)
            assert wanted in httpx.get(f"{address}/metrics").text


def test_idle_connections_make_room_for_others(serve, caplog):
    with serve(connections=8) as (address, _):
        held = [connected(address) for _ in range(40)]
        for number, connection in enumerate(held):
            connection.sendall(b"GET /he" if number % 2 else POST + b"Content-Length: 9\r\n\r\n{")
        for _ in range(5):
            start_s = time.monotonic()
            assert httpx.get(f"{address}/health").status_code == 200
            assert time.monotonic() - start_s < 1
        assert len([record for record in caplog.records if "connections are in use" in record.message]) == 1
        text = httpx.get(f"{address}/metrics").text
        assert float(re.search(r'reason="room needed"} (\S+)', text)[1]) >= 32
        for connection in held:
            connection.close()


def test_connections_that_are_being_answered_are_kept(serve):
    import threading

    gate = threading.Event()

    def slow(service):
        encode = service.batcher._encode
        service.batcher._encode = lambda *given: gate.wait(20) and encode(*given)

    with serve(connections=2, prepare=slow) as (address, service):
        held = [connected(address) for _ in range(2)]
        for connection in held:
            connection.sendall(POST + b'Content-Length: 14\r\n\r\n{"input": "a"}')
        while service.batcher.num_jobs < 2:
            time.sleep(0.01)
        with connected(address) as refused:
            assert told(all_of(refused)) == (503, "unavailable")
        gate.set()
        for connection in held:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            connection.close()
