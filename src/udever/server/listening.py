"""Connections within bounds: uvicorn with what a hostile client needs to be told.

uvicorn's own limits are two: idle connections are closed, and a number of connections beyond which requests are
refused. Here a head is at most so large and at most so long on its way, a client that does not read its answer is hung
up on, connections are accepted one at a time, and at their limit the one that has waited longest without a whole
request makes room. Whatever is refused is refused in the shape of all other errors.
"""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from udever.server.errors import ApiError
from udever.server.settings import Limits

_CHUNK_OVERHEAD = 16
"""Bytes of a chunked body's framing for each byte of it that are taken: single bytes, each its own chunk, need six."""

_LINGER_S = 2.0
"""How long a refused client may read the refusal before its connection is closed."""

_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_QUIET_S = 60.0

_log = logging.getLogger(__name__)


class _TooLargeError(Exception):
    """The head, or the framing of a body, has grown too large; the parser hands it on."""


class Connection(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, limits: Limits, refused: Callable[[str], Any], **given: Any) -> None:
        super().__init__(**given)
        self._limits, self._refused = limits, refused
        self._head_since_s: float | None = None
        self._silent = True
        self._in_message = self._began = False
        self._head_bytes = self._raw_bytes = self._body_bytes = 0
        self._closing_at_s: float | None = None
        self._stalled: tuple[float, int] | None = None
        self.waiting_since_s = 0.0

    @property
    def waits(self) -> bool:
        """Whether no request of it is whole and unanswered: hanging up loses nothing that was taken."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._head_since_s = self.waiting_since_s = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Parse; refuse what is no HTTP, a head that is too large, a body that is nearly all framing."""
        if self._closing_at_s is not None or self.parser is None:
            return
        self._unset_keepalive_if_required()
        self._silent = self._began = False
        if self._head_since_s is None and not self._in_message:
            self._head_since_s = self.loop.time()
            self._raw_bytes = -len(data)  # other requests may be in the same piece
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # to nothing: the request is answered as it is, and the last of it
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            invalid = ApiError(400, "this is no HTTP/1.1 request", code="invalid_http")
            self._refuse(_head_too_large(self._limits) if _is_size(error) else invalid)
            return
        if not self._began:
            self._raw_bytes += len(data)
        # Of a body chunk sizes and trailers count, by which it may be larger than what it brings.
        allowed = self._limits.head_bytes + (1 + _CHUNK_OVERHEAD) * self._body_bytes
        if (self._in_message or self._head_since_s is not None) and self._raw_bytes > allowed:
            self._refuse(_head_too_large(self._limits))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._began = True
        self._head_bytes = self._raw_bytes = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, of the head or behind a chunked body."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            raise _TooLargeError

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_since_s = None
        self._in_message = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that was answered before it came whole."""
        self.waiting_since_s = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._stalled = (self.loop.time(), self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._stalled = None

    def sweep(self, now_s: float) -> None:
        """Hang up where the client has taken too long over a head, a refused body or an answer. Called every second."""
        if self._closing_at_s is not None:
            if now_s > self._closing_at_s:
                self.transport.abort()
        elif self._stalled is not None and self._waited(now_s, self._stalled[0]):
            left = self.transport.get_write_buffer_size()
            read = self._stalled[1] - left
            if read < self._limits.rate_bytes_s * (now_s - self._stalled[0]):
                self._refused("answer not read")
                self.transport.abort()
            self._stalled = (now_s, left)
        elif self.waits and self._head_since_s is not None and self._waited(now_s, self._head_since_s):
            if self._silent:
                self._refused("silent")
                self.transport.close()
            else:
                said = f"the headers did not arrive within {self._limits.head_timeout_s:g} s"
                self._refuse(ApiError(408, said, code="timeout"))
        elif self._in_message and self.cycle.response_complete and self._waited(now_s, self.waiting_since_s):
            self._refused("refused body")
            self.transport.abort()

    def _waited(self, now_s: float, since_s: float) -> bool:
        return now_s - since_s > self._limits.head_timeout_s

    def _refuse(self, error: ApiError) -> None:
        """Answer with `error`, read no more, and close once the client has had time to see it."""
        self._refused(error.code or str(error.status))
        self._closing_at_s = self.loop.time() + _LINGER_S
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body or cycle.response_started:  # the answer to a request before this one comes first
                cycle.keep_alive = False
                self._closing_at_s = self.loop.time() + self._limits.timeout_s
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(response_bytes(error, self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()


class Server(uvicorn.Server):
    """uvicorn's server over connections that are accepted here, at most `max_connections` of them."""

    def __init__(
        self, config: uvicorn.Config, limits: Limits, max_connections: int, refused: Callable[[str], Any]
    ) -> None:
        super().__init__(config)
        self._limits, self._most, self._refused = limits, max_connections, refused
        self._accepting: list[asyncio.Task[None]] = []
        self._said_s = float("-inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept."""
        assert sockets, "the sockets to listen on are made before"
        await super().startup(sockets=[])
        for listening in sockets:
            listening.setblocking(False)
            listening.listen(self.config.backlog)
            self._accepting.append(asyncio.create_task(self._accept(listening)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, then as uvicorn does."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await super().shutdown(sockets=sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; connections are looked at once."""
        if counter % 10 == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Connection)
                connection.sweep(now_s)
        return await super().on_tick(counter)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno not in _FULL:
                    continue  # the client has left again
                self._say(f"no new connection can be opened: {error.strerror}")
                self._make_room()
                await asyncio.sleep(0.05)
                continue
            try:
                if len(self.server_state.connections) >= self._most and not self._make_room():
                    self._turn_away(client)
                    continue
                await loop.connect_accepted_socket(self._connection, client)
            except OSError:  # the client has left again
                client.close()

    def _connection(self) -> Connection:
        return Connection(
            self._limits,
            self._refused,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

    def _make_room(self) -> bool:
        """Hang up on the connection that has waited longest without a whole request; False where none does."""
        waiting = [c for c in self.server_state.connections if isinstance(c, Connection) and c.waits]
        if not waiting:
            return False
        self._say(f"all {self._most} connections are in use; those without a whole request are closed, oldest first")
        self._refused("room needed")
        oldest = min(waiting, key=lambda connection: connection.waiting_since_s)
        self.server_state.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _turn_away(self, client: socket.socket) -> None:
        self._say(f"all {self._most} connections are in use; further ones are refused")
        self._refused("connections")
        error = ApiError(
            503,
            f"all {self._most} connections of this server are in use",
            code="unavailable",
            headers={"Retry-After": "1"},
        )
        with client:
            client.setblocking(False)
            try:
                client.send(response_bytes(error, self.server_state.default_headers))
            except OSError:
                return

    def _say(self, message: str) -> None:
        """Log it, unless something was said a moment ago: a flood must not fill a disk."""
        if time.monotonic() - self._said_s > _QUIET_S:
            self._said_s = time.monotonic()
            _log.warning("%s (said once a minute at most)", message)


def response_bytes(error: ApiError, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole answer that closes its connection."""
    named = {
        "content-type": "application/json",
        "content-length": str(len(error.body)),
        "connection": "close",
        **error.headers,
    }
    lines = [*headers, *((name.encode(), value.encode()) for name, value in named.items())]
    written = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    return STATUS_LINE[error.status] + written + b"\r\n" + error.body


def _is_size(error: BaseException) -> bool:
    return isinstance(error.__context__, _TooLargeError) or isinstance(error.__cause__, _TooLargeError)


def _head_too_large(limits: Limits) -> ApiError:
    return ApiError(431, f"the headers are larger than {limits.head_bytes} bytes; send fewer", code="headers_too_large")
