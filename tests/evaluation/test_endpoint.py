import json

import httpx
import numpy as np
import pytest

from udever.errors import ModelError, TextError
from udever.evaluation.endpoint import EndpointModel, EndpointOptions

KEY = "sk-very-secret"


def vector(text):
    return [float(len(text)), 1.0]


def answer(request):
    body = json.loads(request.content)
    data = [{"index": row, "embedding": vector(text)} for row, text in enumerate(body["input"])]
    return httpx.Response(200, json={"data": data[::-1], "usage": {"total_tokens": 3 * len(data)}})


@pytest.fixture
def serve(monkeypatch):
    """(answers, one after another, the last for ever) -> endpoint, its requests, its waits."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def serve(*answers, **options):
        requests, waits = [], []

        def handle(request):
            requests.append(request)
            reply = answers[min(len(requests), len(answers)) - 1]
            if isinstance(reply, Exception):
                raise reply
            return reply(request) if callable(reply) else reply

        endpoint = EndpointModel(
            EndpointOptions("https://host.example/v1/", "m", **options),
            transport=httpx.MockTransport(handle),
            sleep=waits.append,
        )
        return endpoint, requests, waits

    return serve


def ask(endpoint, texts=("a", "bcd", "ef"), prompt=None):
    return endpoint(list(texts), "query", prompt)


def test_vectors_come_in_the_order_of_the_texts_and_tokens_are_counted(serve):
    endpoint, requests, _ = serve(answer)
    np.testing.assert_array_equal(ask(endpoint), [[1, 1], [3, 1], [2, 1]])
    assert (endpoint.num_tokens, endpoint.num_requests) == (9, 1)
    assert str(requests[0].url) == "https://host.example/v1/embeddings"
    assert requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(requests[0].content) == {"model": "m", "input": ["a", "bcd", "ef"], "encoding_format": "float"}
    assert ask(endpoint, ["a"], "say: ")[0, 0] == 6


def test_dimensions_are_asked_for(serve):
    endpoint, requests, _ = serve(answer, dimensions=2)
    ask(endpoint)
    assert json.loads(requests[0].content)["dimensions"] == 2


def test_batches_are_bounded_by_texts_and_characters(serve):
    endpoint, requests, _ = serve(answer, batch_texts=3, batch_chars=10)
    texts = ["a" * 4, "b" * 4, "c" * 4, "d" * 30, "e", "f", "g", "h"]
    np.testing.assert_array_equal(ask(endpoint, texts)[:, 0], [len(text) for text in texts])
    sizes = [len(json.loads(request.content)["input"]) for request in requests]
    assert sizes == [2, 1, 1, 3, 1]


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(429, json={"error": {"message": "slow down"}}),
        httpx.Response(500, text="oops"),
        httpx.Response(503),
        httpx.ReadTimeout("silence"),
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("closed"),
    ],
)
def test_what_may_pass_is_tried_again_with_growing_waits(trouble, serve):
    endpoint, _, waits = serve(trouble, trouble, answer)
    assert ask(endpoint).shape == (3, 2)
    assert 1 <= waits[0] < 1.2 and 2 <= waits[1] < 2.3


def test_retry_after_is_heeded_and_bounded(serve):
    late = [httpx.Response(429, headers={"retry-after": value}) for value in ("7", "100000", "Fri, 31 Dec 1999", "-3")]
    endpoint, _, waits = serve(*late, answer)
    ask(endpoint)
    assert waits[0] == 7 and waits[1] == 60 and 4 <= waits[2] < 5 and waits[3] == 0


@pytest.mark.parametrize(
    ("trouble", "complaint"),
    [
        (httpx.Response(429, json={"error": {"message": "slow down"}}), r"answered 429: slow down, 6 times"),
        (httpx.Response(500, text="<html>" + "x" * 500), r"answered 500: <html>x+\.\.\., 6 times"),
        (httpx.ReadTimeout("silence"), r"gave no answer \(ReadTimeout\), 6 times"),
    ],
)
def test_what_does_not_pass_is_an_error_in_the_end(trouble, complaint, serve):
    endpoint, requests, _ = serve(trouble)
    with pytest.raises(ModelError, match=complaint):
        ask(endpoint)
    assert len(requests) == 6


@pytest.mark.parametrize(
    ("reply", "kind", "complaint"),
    [
        (httpx.Response(401), ModelError, r"401: the key in \$OPENAI_API_KEY is not accepted"),
        (httpx.Response(403), ModelError, r"403"),
        (httpx.Response(404, json={"error": "no such model"}), ModelError, r"404: no such model; check url and model"),
        (httpx.Response(400, json={"error": {"message": "too long"}}), TextError, r"row 0 .*\(400\): too long"),
        (httpx.Response(301), ModelError, r"answered 301"),
        (httpx.Response(200, text="<html>"), ModelError, r"no JSON: <html>"),
        (httpx.Response(200, text=""), ModelError, r"no JSON: nothing"),
        (httpx.Response(200, json={}), ModelError, r"no embeddings for 3 texts"),
        (httpx.Response(200, json=[1]), ModelError, r"no embeddings"),
        (httpx.Response(200, json={"data": [{"index": 0, "embedding": [1.0]}]}), ModelError, r"no embeddings for 3"),
        (
            httpx.Response(200, json={"data": [{"index": n, "embedding": [1.0] * (n + 1)} for n in range(3)]}),
            ModelError,
            r"no embeddings",
        ),
        (
            httpx.Response(200, json={"data": [{"index": n, "embedding": [1.0]} for n in range(4)]}),
            ModelError,
            r"4 embeddings for 3 texts",
        ),
        (
            httpx.Response(200, text='{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [NaN]}, '
                                     '{"index": 2, "embedding": [1]}]}'),
            TextError,
            r"row 1 got a vector that is not finite",
        ),
    ],
)  # fmt: skip
def test_a_refusal_and_garbage_are_errors_at_once(reply, kind, complaint, serve):
    endpoint, requests, _ = serve(reply)
    with pytest.raises(kind, match=complaint) as caught:
        ask(endpoint)
    assert len(requests) == 1 and KEY not in str(caught.value)


def test_a_missing_key_is_said(serve, monkeypatch):
    endpoint, requests, _ = serve(httpx.Response(401), key_variable="NO_SUCH_KEY")
    with pytest.raises(ModelError, match=r"\$NO_SUCH_KEY is not set"):
        ask(endpoint)
    assert "authorization" not in requests[0].headers


def test_a_url_that_is_none():
    with pytest.raises(ModelError, match="expected one such as"):
        EndpointModel(EndpointOptions("https://host:port", "m"))


def test_a_lone_surrogate_names_its_batch(serve):
    endpoint, _, _ = serve(answer)
    with pytest.raises(TextError, match="surrogate"):
        ask(endpoint, ["a", "\ud800"])


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://host.example/v1", True),
        ("http://localhost:1/v1", True),
        ("http://127.0.0.1:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://host.example/v1", False),
        ("http://127.0.0.1.host.example/v1", False),
    ],
)
def test_a_key_goes_nowhere_in_clear(url, sent, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    if sent:
        EndpointModel(EndpointOptions(url, "m"))
    else:
        with pytest.raises(ModelError, match="--insecure") as refused:
            EndpointModel(EndpointOptions(url, "m"))
        assert KEY not in str(refused.value)
    EndpointModel(EndpointOptions(url, "m", insecure=True))
    monkeypatch.delenv("OPENAI_API_KEY")
    EndpointModel(EndpointOptions(url, "m"))
