"""A server of the Model Context Protocol over what can be searched, so that coding assistants can search it."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from udever.errors import DataError, UdeverError, needs
from udever.search.index import Index, Lines, Status
from udever.search.searchable import Filters, Hit, Mode, Searchable

if TYPE_CHECKING:
    from udever.embedder import Embedder

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MAX_HITS = 50

_ABOUT = """Searches one collection of source code and documents. `search` finds functions, classes and sections by \
meaning, by words or by both; ask in plain language or with identifiers."""
_ABOUT_INDEX = """ `read` shows lines of a file that a hit names. `status` says what is indexed."""


def _told(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """`function` with our errors as the SDK's: the client reads what was wrong and what to do."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(function)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except UdeverError as error:
            raise ToolError(str(error)) from error

    return told


def make_server(found: Searchable, load: Callable[[], "Embedder"]) -> Any:
    """An `MCPServer` with the tool search, over an index read and status too; its `run()` speaks over stdio.

    `load` is called once, before the first search by meaning. Raises MissingExtra where the SDK is not installed.
    """
    with needs("mcp", "mcp", "the MCP server"):
        from mcp.server.mcpserver import MCPServer
    is_index = isinstance(found, Index)
    server = MCPServer("udever", instructions=_ABOUT + (_ABOUT_INDEX if is_index else ""), log_level="WARNING")
    embedders: list[Embedder] = []

    def embedder() -> "Embedder":
        if not embedders:
            embedders.append(load())
        return embedders[0]

    @server.tool()
    @_told
    def search(
        query: str,
        top_k: int = 10,
        mode: Mode = "both",
        languages: list[str] | None = None,
        paths: list[str] | None = None,
        kinds: list[str] | None = None,
    ) -> list[Hit]:
        """Find the passages of code and documents that answer a query, best first.

        mode: "meaning" (vectors), "words" (full text) or "both". languages: such as python-Code, eng-Latn. paths:
        patterns as in a .gitignore, such as src/**. kinds: function, class, code, section, text. top_k: 1 to 50.
        """
        filters = Filters(tuple(languages or ()), tuple(paths or ()), tuple(kinds or ()))
        model = None if mode == "words" else embedder()
        hits = found.search(model, query, min(top_k, _MAX_HITS), mode=mode, filters=filters)
        if not hits and (notes := found.notes(query, mode, filters)):
            raise DataError(f"no hits: {'; '.join(notes)}")
        return hits

    if is_index:
        _add_files(server, found)
    return server


def _add_files(server: Any, index: Index) -> None:
    """The tools that only an index has: it knows the files that its texts come from."""

    @server.tool()
    @_told
    def read(path: str, first_line: int = 1, last_line: int | None = None) -> Lines:
        """Lines of a file as it is now, by the path a hit names; at most 400 at once."""
        return index.read(path, first_line, last_line)

    @server.tool()
    @_told
    def status() -> Status:
        """What is indexed, by which model, and how many files and passages there are."""
        return index.status()
