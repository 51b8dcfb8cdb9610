"""Who may speak to the server at all: a page of another site may not, whatever name it gives this machine."""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from udever.errors import RecipeError
from udever.server.errors import ApiError, refuse

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names of this machine that no page of another site can take for itself."""

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::\d*)?")


def allowed_hosts(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """The names a server that listens on `host` answers to where no key is asked for: its own, and `more`.

    Raises RecipeError for what is no bare host name.
    """
    names = {_checked(name) for name in more}
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return LOCAL | names | {host.lower()}
    if address.is_unspecified:
        return LOCAL | names
    return LOCAL | names | {f"[{address}]" if address.version == 6 else str(address)}


def _checked(name: str) -> str:
    bare = name.strip().lower()
    if not bare or name_of(bare) != bare or set(bare) & set("/@*?# "):
        raise RecipeError(f"allowed host is {name!r}; expected a bare name such as search.example.com, without port")
    return bare


def name_of(authority: str) -> str:
    """The host of `host:port`, in lower case, brackets around an IPv6 address; empty for anything else."""
    match = _AUTHORITY.fullmatch(authority)
    return match[1].lower() if match else ""


class Guard:
    """Around the application: answers HEAD wherever GET is answered, and refuses names and pages of others.

    A page of evil.example can point its own name at 127.0.0.1 and is then of the same origin as this server; what it
    cannot change is the Host its browser sends. `hosts` None asks nothing: a key does better.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = self._objection(Headers(scope=scope)) if self._hosts is not None else None
        if error is not None:
            await refuse(error)(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # the server below sends no body to it
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

    def _objection(self, headers: Headers) -> ApiError | None:
        assert self._hosts is not None
        given = headers.getlist("host")
        if len(given) != 1 or name_of(given[0].strip()) not in self._hosts:
            shown, own = ", ".join(given)[:100], ", ".join(sorted(self._hosts))
            return ApiError(
                421,
                f"the host is {shown!r}, and without keys this server answers only to {own}; "
                "start it with --allowed-host NAME, or with --keys",
                code="host_not_allowed",
            )
        for origin in headers.getlist("origin"):
            authority = _authority(origin)
            own = authority == given[0].strip().lower()
            if not own and name_of(authority) not in self._hosts - LOCAL:
                return ApiError(
                    403,
                    f"web pages of {origin[:100]!r} may not use this server; start it with --allowed-host NAME",
                    code="origin_not_allowed",
                )
        return None


def _authority(origin: str) -> str:
    """`host:port` of an Origin header, in lower case; empty for `null` and for what is no address."""
    try:
        return urlsplit(origin.strip()).netloc.lower()
    except ValueError:
        return ""
