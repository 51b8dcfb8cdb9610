"""The URI of an index in PostgreSQL: what stands in it, and whether the connection leaves this machine."""

import os
import re
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import suppress
from pathlib import Path
from typing import Any

from udever.errors import DataError
from udever.storage import home_folder

_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"\[[^\]]*\]|[^/?#:]*")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def parse_uri(uri: str) -> tuple[str, str]:
    """What libpq connects to and the schema's name, from `postgresql://user@host/database#name`.

    Raises DataError for a password in it: that is PGPASSWORD's, or a password file's. To another machine the
    connection is encrypted unless the URI, its service or PGSSLMODE says otherwise.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    scheme, _, rest = uri.partition("://")
    before, _, behind = rest.rpartition("@")
    host = _HOST.match(behind)
    shown = f"{scheme}://{host[0] if host else ''}"  # whatever else stands there may be a password
    in_uri = DataError(f"{shown}: a password stands in the URI; put it into PGPASSWORD instead")
    if ":" in before:
        raise in_uri
    address, _, name = uri.partition("#")
    name = name or "udever"
    expected = "expected postgresql://user@host/database#name, the name in [a-z0-9_]"
    try:
        given = conninfo_to_dict(address)
    except ProgrammingError:
        raise DataError(f"{shown}: not a URI that libpq reads; {expected}") from None
    if not {"password", "sslpassword"}.isdisjoint(given):
        raise in_uri
    settings = _settings(shown, given)
    if not settings.get("dbname") or not _NAME.fullmatch(name):
        raise DataError(f"{shown}: the URI names no index; {expected}")
    hosts = str(settings.get("hostaddr") or settings.get("host") or "").split(",")
    is_near = all(host in _LOCAL or host.startswith(("/", "@")) for host in hosts)
    if not is_near and "sslmode" not in settings:
        address += f"{'&' if '?' in address else '?'}sslmode=require"
    return address, name


def _settings(shown: str, given: dict[str, Any]) -> dict[str, Any]:
    """What libpq takes of what decides where a connection goes: the URI's, the service's, the environment's."""
    names = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "sslmode": "PGSSLMODE"}
    settings = {name: os.environ[variable] for name, variable in names.items() if os.environ.get(variable)}
    service = given.get("service") or os.environ.get("PGSERVICE")
    if service:
        file = Path(os.environ.get("PGSERVICEFILE") or (home_folder() or Path()) / ".pg_service.conf")
        services = ConfigParser(interpolation=None, strict=False, allow_no_value=True)
        with suppress(ConfigParserError, UnicodeError):  # one that cannot be read names no service
            services.read(file, "utf-8")
        if service in services:
            settings |= services[service]
        elif "sslmode" not in given:
            raise DataError(f"{shown}: no service {service!r} in {file}; name it there, or say ?sslmode=... in the URI")
    return settings | given
