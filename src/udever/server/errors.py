"""Refusals in the shape OpenAI's clients read: {"error": {"message", "type", "param", "code"}}."""

import math
from collections.abc import Mapping

import orjson
from starlette.responses import Response

JSON = "application/json"


class ApiError(Exception):
    """A request is answered with `status` and this message; `param` names the part of the request at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The JSON of the answer."""
        return orjson.dumps(
            {
                "error": {
                    "message": self.message,
                    "type": error_type(self.status),
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


def refuse(error: ApiError) -> Response:
    """An error as a response."""
    return Response(error.body, status_code=error.status, media_type=JSON, headers=error.headers)


def error_type(status: int) -> str:
    """OpenAI's name for a kind of error."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    return kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")


def overloaded(retry_after_s: float, what: str) -> ApiError:
    """429, with the seconds after which another try makes sense."""
    seconds = max(1, math.ceil(retry_after_s))
    return ApiError(
        429,
        f"{what}; try again in {seconds} s",
        code="overloaded",
        headers={"Retry-After": str(seconds)},
    )


def unprocessable(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """422: the JSON is well formed and asks for something that cannot be done."""
    return ApiError(422, message, code=code, param=param)
