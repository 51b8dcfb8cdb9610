"""Embeddings over HTTP from anything that speaks OpenAI's protocol: batches, retries with back-off, tokens counted."""

import ipaddress
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from udever.errors import ModelError, TextError
from udever.evaluation.mteb_model import Floats, Role

_RETRIED = frozenset([408, 409, 425, 429, 500, 502, 503, 504])
_MAX_WAIT_S = 60.0


@dataclass(frozen=True)
class EndpointOptions:
    """`url` up to and without /embeddings; the key is read from the environment variable `key_variable`.

    The key goes over https or to this machine alone, unless `insecure`. `batch_texts` and `batch_chars` bound
    one request. Refusals and silence are tried again `tries - 1` times, after `wait_s`, twice that, and so on, or
    after what Retry-After says.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    dimensions: int | None = None
    batch_texts: int = 128
    batch_chars: int = 200_000
    timeout_s: float = 60.0
    tries: int = 6
    wait_s: float = 1.0
    insecure: bool = False


class EndpointModel:
    """A function from texts to vectors (see `mteb_model.Embed`); `num_tokens` and `num_requests` count what it cost.

    Raises ModelError where the server refuses the key, stays silent or answers something else than embeddings, and
    TextError where it refuses a text. The key is in no message.
    """

    def __init__(
        self, options: EndpointOptions, *, transport: Any = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        import httpx

        key = os.environ.get(options.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.options = options
        self.num_tokens = 0
        self.num_requests = 0
        self._key_given = bool(key)
        self._url = options.url.rstrip("/").removesuffix("/embeddings") + "/embeddings"
        self._sleep = sleep
        self._random = random.Random(0)
        try:
            self._client = httpx.Client(headers=headers, timeout=options.timeout_s, transport=transport)
            url = httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise ModelError(f"{options.url} is not a URL ({error}); expected one such as https://host/v1") from error
        if key and not options.insecure and url.scheme != "https" and not _is_loopback(url.host):
            raise ModelError(
                f"{options.url} is not https, and the key in ${options.key_variable} would be sent unencrypted; "
                "give an https URL, unset the key, or pass --insecure"
            )

    def __call__(self, texts: Sequence[str], role: Role, prompt: str | None) -> Floats:
        """[texts, dimensions]; a prompt is written in front of every text."""
        written = [(prompt or "") + text for text in texts]
        vectors = [self._batch(written, start, stop) for start, stop in self._batches(written)]
        widths = {part.shape[1] for part in vectors}
        if len(widths) > 1:
            raise ModelError(f"{self._url} answered vectors of {sorted(widths)} dimensions; expected one length")
        return np.concatenate(vectors)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        start = used = 0
        for row, text in enumerate(texts):
            full = row - start >= self.options.batch_texts or used + len(text) > self.options.batch_chars
            if full and row > start:
                yield start, row
                start, used = row, 0
            used += len(text)
        yield start, len(texts)

    def _batch(self, texts: Sequence[str], start: int, stop: int) -> Floats:
        body: dict[str, Any] = {
            "model": self.options.model,
            "input": list(texts[start:stop]),
            "encoding_format": "float",
        }
        if self.options.dimensions is not None:
            body["dimensions"] = self.options.dimensions
        answer = self._ask(body, start)
        try:
            rows = {int(entry["index"]): entry["embedding"] for entry in answer["data"]}
            vectors = np.array([rows[row] for row in range(stop - start)], dtype=np.float32)
            tokens = (answer.get("usage") or {}).get("total_tokens") or 0
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{self._url} answered no embeddings for {stop - start} texts: {_short(answer)}"
            ) from error
        if len(rows) != stop - start or vectors.ndim != 2 or not vectors.shape[1]:
            raise ModelError(f"{self._url} answered {len(rows)} embeddings for {stop - start} texts")
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise TextError(f"row {start + int(bad[0])} got a vector that is not finite from {self._url}")
        self.num_tokens += int(tokens)
        return vectors

    def _ask(self, body: dict[str, Any], start: int) -> Any:
        import httpx

        reason, wait = "", None
        for attempt in range(self.options.tries):
            if attempt:
                self._sleep(wait if wait is not None else self._back_off(attempt))
            self.num_requests += 1
            wait = None
            try:
                response = self._client.post(self._url, json=body)
            except (httpx.TimeoutException, httpx.TransportError) as error:
                reason = f"gave no answer ({type(error).__name__})"
                continue
            except UnicodeEncodeError as error:
                raise TextError(f"row {start}: a text holds a lone surrogate, which JSON cannot carry") from error
            if response.status_code in _RETRIED:
                reason, wait = f"answered {response.status_code}: {_message(response)}", _retry_after(response)
                continue
            return self._read(response, start)
        raise ModelError(f"{self._url} {reason}, {self.options.tries} times; wait, or check the address")

    def _read(self, response: Any, start: int) -> Any:
        status = response.status_code
        if status in (401, 403):
            state = "is not accepted" if self._key_given else "is not set"
            raise ModelError(f"{self._url} answered {status}: the key in ${self.options.key_variable} {state}")
        if status == 404:
            raise ModelError(f"{self._url} answered 404: {_message(response)}; check url and model")
        if status in (400, 413, 422):
            raise TextError(f"row {start} or a later one was refused by {self._url} ({status}): {_message(response)}")
        if status != 200:
            raise ModelError(f"{self._url} answered {status}: {_message(response)}")
        try:
            return response.json()
        except ValueError as error:
            raise ModelError(f"{self._url} answered no JSON: {_short(response.text)}") from error

    def _back_off(self, attempt: int) -> float:
        """Doubling, with a little chance so that many clients do not come back together."""
        return min(_MAX_WAIT_S, self.options.wait_s * 2 ** (attempt - 1) * (1 + 0.1 * self._random.random()))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after(response: Any) -> float | None:
    """Seconds of the Retry-After header, bounded; None where it is missing or a date."""
    try:
        return min(_MAX_WAIT_S, max(0.0, float(response.headers["retry-after"])))
    except (KeyError, ValueError):
        return None


def _message(response: Any) -> str:
    """What the server says, in one short line."""
    try:
        error = response.json()["error"]
        return _short(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return _short(response.text)


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return (text[:120] + "...") if len(text) > 120 else text or "nothing"
