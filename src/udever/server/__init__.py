"""The server: vectors, reranking, search and labels over HTTP.

`Service` joins a model with what enters from other rooms, `create_app` makes the application of it, `serve`
listens. Needs the extra `serve`.
"""

from importlib.util import find_spec

from udever.errors import MissingExtra
from udever.server.interfaces import Classifier
from udever.server.settings import Limits

__all__ = [
    "Classifier",
    "Limits",
    "require_packages",
]

_PACKAGES = ("fastapi", "uvicorn", "httptools", "orjson", "prometheus_client")


def require_packages() -> None:
    """Raise MissingExtra, with the command that mends it, where a package the server needs is not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"the server needs {', '.join(missing)}; run pip install 'udever[serve]'")
