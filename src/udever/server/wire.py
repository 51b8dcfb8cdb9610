"""Requests as they come over the wire. Anything not named here is refused, not ignored."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from udever.model.contract import RoleName
from udever.search.searchable import MAX_QUERY, Mode
from udever.server.errors import ApiError, unprocessable
from udever.server.settings import MAX_INPUTS, Truncate

Request = TypeVar("Request", bound=BaseModel)


def _fail(message: str) -> PydanticCustomError:
    return PydanticCustomError("input", message)  # pyright: ignore[reportArgumentType] # asks for a literal


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _kind(value: object) -> str:
    names = {str: "a string", list: "an array", dict: "an object", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _check_sequence(sequence: Any, where: str) -> None:
    if not sequence:
        raise _fail(f"{where} is an empty array; give at least one token id")
    if not all(map(_is_id, sequence)):
        raise _fail(f"{where} holds something that is no token id; expected whole numbers from 0")


def _check_input(value: Any) -> list[str] | list[list[int]]:
    """A text, texts, token ids, or arrays of token ids, always as a list of inputs."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _fail(f"input is {_kind(value)}; expected a string, an array of strings, or token ids")
    if not value:
        raise _fail("input is an empty array; give at least one text")
    if isinstance(value[0], int):
        _check_sequence(value, "input")
        return [value]
    if len(value) > MAX_INPUTS:
        raise _fail(f"input holds {len(value)} items; at most {MAX_INPUTS} go into one request")
    first = type(value[0])
    if first not in (str, list):
        raise _fail(f"input[0] is {_kind(value[0])}; expected a string or an array of token ids")
    for row, item in enumerate(value):
        if type(item) is not first:
            raise _fail(f"input[{row}] is {_kind(item)} where input[0] is {_kind(value[0])}; give one kind")
        if first is list:
            _check_sequence(item, f"input[{row}]")
    return value


_TOKEN = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_TOKENS = {"type": "array", "items": _TOKEN, "minItems": 1}
_TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_INPUTS}
_MANY_TOKENS = {"type": "array", "items": _TOKENS, "minItems": 1, "maxItems": MAX_INPUTS}
_INPUT = {"anyOf": [{"type": "string"}, _TEXTS, _TOKENS, _MANY_TOKENS]}

Input = Annotated[Any, AfterValidator(_check_input), WithJsonSchema(_INPUT)]
"""list[str] or list[list[int]] once validated."""

Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
Model = Annotated[str | None, Field(description="Name of the served model; may be left out.")]
Instruction = Annotated[str | None, Field(max_length=8192, description="What kind of match is wanted.")]
Names = Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=64)]


class _Strict(BaseModel):
    """JSON types are taken as they are: "3" is no number and 3.0 no integer."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Body(_Strict):
    """A request."""

    model: Model = None


class EmbeddingsRequest(Body):
    """OpenAI's, with `input_type`, `instruction` and `truncate` beside."""

    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int | None, Field(ge=1)] = None
    user: str | None = None
    input_type: RoleName | None = None
    instruction: Instruction = None
    truncate: Truncate | None = None


class DocumentText(_Strict):
    """A document as an object."""

    text: str


class RerankRequest(Body):
    """Cohere's and Jina's. Cohere's `max_tokens_per_doc` and `priority` have no meaning here and are refused."""

    query: str
    documents: Annotated[list[str | DocumentText], Field(min_length=1, max_length=MAX_INPUTS)]
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool | None = None
    instruction: Instruction = None
    truncate: Truncate | None = None


class SearchRequest(Body):
    """A question to the index, with filters; empty ones let everything through."""

    query: Annotated[str, Field(max_length=MAX_QUERY)]
    top_k: Annotated[int, Field(ge=1, le=1000)] = 10
    mode: Mode = "both"
    languages: Names = []
    kinds: Names = []
    paths: Names = []
    instruction: Instruction = None
    snippet_lines: Annotated[int, Field(ge=1, le=60)] = 6
    include_text: bool = False


class TextsRequest(_Strict):
    """Texts of the index by id."""

    ids: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=256)]
    query: Annotated[str, Field(max_length=MAX_QUERY, description="The question whose words are marked.")] = ""


class TokensRequest(Body):
    """The tokens that texts become."""

    input: Annotated[Texts | str, Field(description="A text or a few.")]
    input_type: RoleName | None = None
    instruction: Instruction = None


class SimilarityRequest(Body):
    """Cosines of every text with every other, or of texts (as queries) with `documents`."""

    input: Texts
    documents: Texts | None = None
    input_type: RoleName | None = None
    instruction: Instruction = None
    truncate: Truncate | None = None


class ClassifyRequest(Body):
    """Texts to be labelled."""

    input: Annotated[Texts | str, Field(description="A text or several.")]
    truncate: Truncate | None = None


class ModerationPart(_Strict):
    """A part of OpenAI's multi-modal input; text alone is served."""

    type: Literal["text"]
    text: str


Parts = Annotated[list[ModerationPart], Field(min_length=1, max_length=MAX_INPUTS)]


class ModerationsRequest(Body):
    """OpenAI's."""

    input: Annotated[str | Texts | Parts, Field(description="A text, several, or text parts.")]


def parse(kind: type[Request], body: bytes) -> Request:
    """`body` as a request of that kind. Raises ApiError: 400 for what is no JSON, 422 for what is no request."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None
    if first["type"] == "json_invalid":
        raise ApiError(400, f"the body is no JSON: {first['msg'].removeprefix('Invalid JSON: ')}", code="invalid_json")
    where = ".".join(str(part) for part in first["loc"][:4])
    raise unprocessable(first["msg"] if where == "" else f"{where}: {first['msg']}", where or None)
