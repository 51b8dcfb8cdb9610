"""Between the socket and the endpoints: keys, bodies within bounds, clients that leave, errors as answers."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from udever.errors import ContractError, ModelError, OutputError, UdeverError
from udever.server import wire
from udever.server.auth import Keys
from udever.server.bounds import check_values
from udever.server.endpoints import Endpoint
from udever.server.errors import JSON, ApiError, overloaded, refuse
from udever.server.service import Service
from udever.server.settings import Limits

T = TypeVar("T")
_DRAINED = 64 << 20
"""Bytes of a refused body that are read and dropped, so that its client gets to read the refusal."""

_GRACE_S = 5.0
"""How long a body may take before its rate is looked at."""

_log = logging.getLogger(__name__)


class ClientGoneError(Exception):
    """The client closed its connection before the answer."""


class Admission:
    """Every request passes here: it is admitted, read, answered and counted."""

    def __init__(self, service: Service, keys: Keys | None) -> None:
        self._service, self._keys = service, keys
        self._held_bytes = 0
        service.metrics.watch("held_bytes", "Bytes of bodies being read or answered.", lambda: self._held_bytes)

    def handler(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """The route function of a POST endpoint."""

        async def handle(request: Request) -> Response:
            return await self._guarded(request, endpoint.path, self._answer(request, endpoint))

        return handle

    async def read(self, request: Request, path: str, run: Callable[[], Awaitable[bytes]]) -> Response:
        """The response of a GET endpoint."""

        async def work() -> bytes:
            self._admit(request)
            return await _attended(request, run(), self._service.limits.timeout_s)

        return await self._guarded(request, path, work())

    async def _guarded(self, request: Request, path: str, work: Coroutine[Any, Any, bytes]) -> Response:
        start_s = time.perf_counter()
        try:
            response = Response(await work, media_type=JSON)
        except ClientGoneError:
            self._service.metrics.cancelled.inc()
            response = Response(status_code=499)  # nobody reads it; the number is for the metrics
        except ApiError as error:
            response = refuse(error)
        except UdeverError as error:
            response = refuse(_explain(error))
        except Exception:
            _log.exception("%s %s failed", request.method, path)
            response = refuse(ApiError(500, "the server failed on this request; its log says why"))
        self._service.metrics.answered(path, response.status_code, time.perf_counter() - start_s)
        return response

    def _admit(self, request: Request) -> None:
        if self._keys is not None and not self._keys.admit(request.headers.get("authorization")):
            raise ApiError(
                401,
                "no valid key was given; send one of this server's keys as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not self._service.ready:
            raise ApiError(503, "the server is starting or stopping", code="unavailable", headers={"Retry-After": "1"})

    async def _answer(self, request: Request, endpoint: Endpoint) -> bytes:
        self._admit(request)
        _check_headers(request)
        size = 0
        try:
            chunks: list[bytes] = []
            async for chunk in self._body(request):
                size += len(chunk)
                self._held_bytes += len(chunk)
                chunks.append(chunk)
            body = b"".join(chunks)
            del chunks
            work = self._parsed(endpoint, body)
            del body
            return await _attended(request, work, self._service.limits.timeout_s)
        finally:
            self._held_bytes -= size

    async def _parsed(self, endpoint: Endpoint, body: bytes) -> bytes:
        if len(body) > _DRAINED >> 10:  # larger than 64 KiB: parsing would hold up the event loop
            await self._service.compute(check_values, body)
            parsed = await self._service.compute(wire.parse, endpoint.request, body)
        else:
            parsed = wire.parse(endpoint.request, body)
        del body
        return await endpoint.run(self._service, parsed)

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Chunks of the body. Raises ApiError: 413 too large, 408 too slow, 429 too much held already."""
        limits = self._service.limits
        size = 0
        refused = _too_large(limits) if _announced(request) > limits.body_bytes else None
        if refused is not None and "100-continue" in request.headers.get("expect", "").lower():
            raise refused  # nothing of the body was sent yet: to read it would be to ask for it
        start_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(_GRACE_S, limits.body_timeout_s)) as patience:
                async for chunk in _chunks(request):
                    size += len(chunk)
                    allowed_s = min(_GRACE_S + size / limits.rate_bytes_s, limits.body_timeout_s)
                    patience.reschedule(start_s + allowed_s)
                    if refused is None and size > limits.body_bytes:
                        refused = _too_large(limits)
                    elif refused is None and self._held_bytes + len(chunk) > limits.held_bytes:
                        refused = overloaded(1, "too many large requests at once")
                    if refused is None:
                        yield chunk
                    elif size > _DRAINED:
                        break
        except TimeoutError:
            raise ApiError(
                408,
                f"the body took longer than {limits.body_timeout_s:g} s, or arrived at less than "
                f"{limits.rate_bytes_s:g} bytes a second; send less at once",
                code="timeout",
            ) from None
        if refused is not None:
            raise refused


def _check_headers(request: Request) -> None:
    """Raise ApiError, 415, unless a plain JSON body is announced.

    A page of another site can make a browser send anything but this type without asking first.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise ApiError(415, f"the content type is {kind[:100]!r}; expected {JSON}", code="unsupported_media_type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(415, "compressed bodies are not taken; send it plain", code="unsupported_media_type")


def _announced(request: Request) -> int:
    """The body's length as its header has it, 0 where it says nothing."""
    length = request.headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ClientGoneError where it does not come whole."""
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        more = message.get("more_body", False)
        yield message.get("body", b"")


def _too_large(limits: Limits) -> ApiError:
    return ApiError(413, f"the body is larger than {limits.body_bytes} bytes; send several", code="body_too_large")


async def _attended(request: Request, work: Coroutine[Any, Any, T] | Awaitable[T], timeout_s: float) -> T:
    """`work`'s result, as long as the client waits for it and no longer than `timeout_s`."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        done, _ = await asyncio.wait((task, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise ClientGoneError
        raise ApiError(504, f"no answer within {timeout_s:g} s; send less at once", code="timeout")
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            task.add_done_callback(_retrieve)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _retrieve(task: "asyncio.Future[Any]") -> None:
    """Look at what a task that nobody awaits came to, so that it is not reported as lost."""
    if not task.cancelled():
        task.exception()


def _explain(error: UdeverError) -> ApiError:
    """What an index or classifier refuses: the request's fault, unless it is a model's or a file's."""
    if isinstance(error, ContractError | ModelError | OutputError):
        return ApiError(500, str(error))
    return ApiError(422, str(error), code="invalid_value")
