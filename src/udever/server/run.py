"""Listening: uvicorn with what a server of vectors needs."""

import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udever.errors import ModelError, OutputError
from udever.server import require_packages
from udever.server.auth import Keys
from udever.server.guard import LOCAL, allowed_hosts
from udever.server.service import Service

if TYPE_CHECKING:
    from udever.server.listening import Server

_CONNECTIONS = 1000
_SPARE_FILES = 48
"""Open files beside connections: what is open already is counted, and an index opens more as it is searched."""

_SWITCH_S = 0.0005
"""How long a thread may keep the others from running Python: the worker's and the event loop's turns are short."""


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Keys | None = None,
    hosts: Iterable[str] = (),
    say: Callable[[str], Any] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer the requests that were accepted and return.

    Without keys the server answers only requests that address it as `host`, as one of `hosts` or by this machine's
    local names. `say` is called with the server's address, and with a warning where others can reach it without keys.
    Raises OutputError where the address cannot be used.
    """
    require_packages()
    names = allowed_hosts(host, hosts)
    if keys is None and not _is_loopback(host):
        say(f"warning: {host} can be reached from elsewhere and no keys are set: whoever reaches it may use it")
    sys.setswitchinterval(_SWITCH_S)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    with _listening(host, port) as listening:
        bound = listening.getsockname()
        say(f"{service.name} on http://{bound[0]}:{bound[1]} ({service.embedder.fingerprint})")
        server = make_server(service, keys=keys, hosts=names)
        with _ending_quietly():
            server.run(sockets=[listening])
    if not server.started:
        raise ModelError("the server could not start; the log above says why")


def make_server(
    service: Service, *, keys: Keys | None = None, hosts: frozenset[str] = LOCAL, page: Path | None = None
) -> "Server":
    """The server, to be run over sockets that are bound already; the rest as `create_app` has it."""
    import uvicorn

    from udever.server.app import PAGE, create_app
    from udever.server.listening import Server

    config = uvicorn.Config(
        create_app(service, keys=keys, page=page or PAGE, hosts=hosts),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(service.limits.timeout_s) + 5,
        backlog=4096,
    )
    return Server(config, service.limits, service.limits.connections or _room(), service.metrics.refused)


def _room() -> int:
    """Connections that the limit on open files leaves room for."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return _CONNECTIONS
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY:
        return _CONNECTIONS
    try:
        num_open = len(os.listdir("/dev/fd"))  # noqa: PTH208 # names alone: a path of each would open them again
    except OSError:
        num_open = _SPARE_FILES
    return max(8, min(_CONNECTIONS, most - num_open - _SPARE_FILES))


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """uvicorn raises the signals it stopped at once more when it is done; by then all is answered."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listening(host: str, port: int) -> socket.socket:
    listening = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # two can be bound to a port, but not listen on it
    except OSError as error:
        if listening is not None:
            listening.close()
        raise OutputError(f"cannot listen on {host} port {port}: {error}; choose another --port or --host") from error
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
