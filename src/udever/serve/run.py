"""Listening: uvicorn with what a server of vectors needs."""

import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from udever.errors import ModelError, OutputError
from udever.serve import require_packages
from udever.serve.auth import Keys
from udever.serve.service import Service

_SWITCH_S = 0.0005
"""How long a thread may keep the others from running Python: the worker's and the event loop's turns are short."""


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Keys | None = None,
    say: Callable[[str], Any] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was taken and return.

    Raises OutputError where the address cannot be used. `say` hears where the server is, and a warning where
    it is open to others without keys.
    """
    require_packages()
    import uvicorn

    from udever.serve.app import create_app

    if keys is None and not _is_loopback(host):
        say(f"warning: {host} can be reached from elsewhere and no keys are set: whoever reaches it may use it")
    sys.setswitchinterval(_SWITCH_S)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    config = uvicorn.Config(
        create_app(service, keys=keys),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(service.limits.timeout_s) + 5,
        backlog=4096,
    )
    with _listening(host, port) as listening:
        bound = listening.getsockname()
        say(f"{service.name} on http://{bound[0]}:{bound[1]} ({service.embedder.fingerprint})")
        server = uvicorn.Server(config)
        with _ending_quietly():
            server.run(sockets=[listening])
    if not server.started:
        raise ModelError("the server could not start; the log above says why")


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
