"""The application: routes, the OpenAPI document, the page, start and stop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from udever import __version__
from udever.server import endpoints, metrics, replies
from udever.server.admission import Admission
from udever.server.auth import Keys
from udever.server.encoding import dumps
from udever.server.errors import JSON, ApiError, refuse, unprocessable
from udever.server.guard import LOCAL, Guard
from udever.server.service import Service

PAGE = Path(__file__).with_name("page")
"""Where the page lies: `index.html`, served at `/`, and what it loads, served below `/page`."""

_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "Content-Security-Policy": _CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again each time: parts of two versions do not go together
}

_REFUSALS = {
    400: "The body is no JSON.",
    401: "No valid key.",
    403: "A page of another site.",
    404: "Not served here.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not announced as JSON.",
    421: "A host name that this server does not answer to.",
    422: "The request cannot be done; the message names the part at fault.",
    429: "Too much at once; Retry-After says when to try again.",
    431: "The headers are too large.",
    503: "Starting or stopping.",
    504: "Not answered in time.",
}


def create_app(
    service: Service, *, keys: Keys | None = None, page: Path = PAGE, hosts: frozenset[str] = LOCAL
) -> FastAPI:
    """The ASGI application that serves one model.

    Without `keys`, it answers every client that addresses it by one of `hosts`, except web pages of other sites.
    `page` is the folder of the server's own web page, and may be missing.

    The application starts the service when it starts; when it ends, it answers what it accepted and stops the service.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="udever", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    admission = Admission(service, keys)
    for endpoint in endpoints.ENDPOINTS:
        _add_post(app, endpoint, admission)
    _add_gets(app, service, admission)
    _add_states(app, service)
    _add_page(app, page)
    _add_errors(app)
    app.add_middleware(Guard, hosts=hosts if keys is None else None)
    app.openapi = lambda: _openapi(app, secured=keys is not None)
    return app


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": replies.ErrorReply, "description": _REFUSALS[status]} for status in statuses}


def _add_post(app: FastAPI, endpoint: endpoints.Endpoint, admission: Admission) -> None:
    schema = {"$ref": f"#/components/schemas/{endpoint.request.__name__}"}
    app.add_api_route(
        endpoint.path,
        admission.handler(endpoint),
        methods=["POST"],
        name=endpoint.path.strip("/").replace("/", "-"),
        summary=(endpoint.run.__doc__ or "").rstrip("."),
        response_class=Response,
        responses={200: {"model": endpoint.reply, "description": "Done."}, **_refusals(*_REFUSALS)},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}},
    )


def _add_gets(app: FastAPI, service: Service, admission: Admission) -> None:
    async def get_models(request: Request) -> Response:
        """The served model and its fingerprint."""

        async def rows() -> bytes:
            return dumps({"object": "list", "data": [await endpoints.model_row(service)]})

        return await admission.read(request, "/v1/models", rows)

    async def get_model(request: Request, model: str) -> Response:
        """The same by name."""

        async def named() -> bytes:
            service.check_model(model)
            return dumps(await endpoints.model_row(service))

        return await admission.read(request, "/v1/models/{model}", named)

    async def get_map(request: Request, limit: Annotated[int, Query(ge=1, le=1_000_000)] = 50_000) -> Response:
        """The index on a plane."""
        run = partial(endpoints.points, service, min(limit, service.limits.map_points))
        return await admission.read(request, "/v1/map", run)

    def add(path: str, run: Callable[..., Awaitable[Response]], reply: type[BaseModel], *more: int) -> None:
        refusals = _refusals(401, 403, 404, 408, 421, 431, 503, *more)
        app.add_api_route(path, run, response_class=Response, responses={200: {"model": reply}, **refusals})

    add("/v1/models", get_models, replies.ModelsReply)
    add("/v1/models/{model:path}", get_model, replies.ModelRow)
    add("/v1/map", get_map, replies.MapReply, 422, 429, 504)


def _add_states(app: FastAPI, service: Service) -> None:
    def state(fine: bool, word: str) -> Response:
        return Response(dumps({"status": word}), status_code=200 if fine else 503, media_type=JSON)

    async def health() -> Response:
        """Whether the process works: 503 where the encoding thread has died."""
        alive = service.batcher.healthy or not service.ready
        return state(alive, "ok" if alive else "broken")

    async def ready() -> Response:
        """Whether requests are taken."""
        taking = service.ready and service.batcher.healthy
        return state(taking, "ready" if taking else "not ready")

    async def show_metrics() -> Response:
        """Prometheus' text format."""
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    broken = {503: {"description": "Not so."}}
    app.add_api_route("/health", health, response_class=Response, responses={**broken})
    app.add_api_route("/ready", ready, response_class=Response, responses={**broken})
    text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    app.add_api_route("/metrics", show_metrics, response_class=Response, responses={**text})


class _PageFiles(StaticFiles):
    def file_response(self, *given: Any, **named: Any) -> Response:
        """A part of the page, with the page's headers."""
        response = super().file_response(*given, **named)
        response.headers.update(_PAGE_HEADERS)
        return response


def _add_page(app: FastAPI, page: Path) -> None:
    if not (page / "index.html").is_file():
        return

    async def index() -> Response:
        return FileResponse(page / "index.html", headers=_PAGE_HEADERS)

    app.add_api_route("/", index, include_in_schema=False, response_class=Response)
    app.mount("/page", _PageFiles(directory=page), name="page")


def _add_errors(app: FastAPI) -> None:
    """Every refusal in one shape, those of the framework too."""

    async def plain(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refuse(ApiError(error.status_code, str(error.detail), headers=error.headers))

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = str(first["loc"][-1])
        return refuse(unprocessable(f"{where}: {first['msg']}", where))

    async def failed(_: Request, error: Exception) -> Response:
        return refuse(ApiError(500, "the server failed on this request; its log says why"))

    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, failed)


def _openapi(app: FastAPI, *, secured: bool) -> dict[str, Any]:
    """The document, with the request bodies that the framework does not see since it does not parse them."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        requests = [(endpoint.request, "validation") for endpoint in endpoints.ENDPOINTS]
        _, schemas = models_json_schema(requests, ref_template="#/components/schemas/{model}")  # pyright: ignore[reportArgumentType]
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(schemas["$defs"])
        if secured:
            components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                if path.startswith(("/v1", "/v2")):
                    for operation in operations.values():
                        operation["security"] = [{"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema
