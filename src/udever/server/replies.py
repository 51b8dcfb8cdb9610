"""Answers as the OpenAPI document describes them. `encoding` makes the bytes; tests hold the two together."""

from typing import Any, Literal

from pydantic import BaseModel


class Usage(BaseModel):
    """Tokens the model read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingRow(BaseModel):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    truncated: bool


class EmbeddingsReply(BaseModel):
    """Vectors in the order of the inputs."""

    object: Literal["list"]
    data: list[EmbeddingRow]
    model: str
    usage: Usage


class RerankRow(BaseModel):
    """A document's place in the input, and the cosine with the query."""

    index: int
    relevance_score: float
    truncated: bool
    document: dict[str, str] | None = None


class RerankReply(BaseModel):
    """Best first."""

    id: str
    model: str
    results: list[RerankRow]
    usage: Usage
    meta: dict[str, Any]


class SnippetPart(BaseModel):
    """A piece of a snippet; `match` where it is one of the question's words."""

    text: str
    match: bool


class SnippetLine(BaseModel):
    """A line of a snippet; its number in the file, from 1, where it has one."""

    line: int | None
    parts: list[SnippetPart]


class TextRow(BaseModel):
    """A text of the index. Lines count from 1; what the index does not know is null.

    `own_lines`: the lines of `text` are those of the file from `first_line` on, not what was read out of them.
    `matches` are the beginnings and ends of the question's words in `text`, in characters (code points).
    """

    id: str
    source: str | None
    first_line: int | None
    last_line: int | None
    kind: str | None
    name: str | None
    parent: str | None
    language: str | None
    own_lines: bool
    text: str | None = None
    matches: list[tuple[int, int]] | None = None


class SearchRow(TextRow):
    """A hit."""

    score: float
    snippet: list[SnippetLine]


class SearchReply(BaseModel):
    """Best first."""

    object: Literal["list"]
    data: list[SearchRow]
    model: str
    usage: Usage
    took_ms: float
    notes: list[str]


class TextsReply(BaseModel):
    """Texts by id; an unknown one is absent."""

    data: list[TextRow]


class TokenPiece(BaseModel):
    """One token and the characters it stands for."""

    id: int
    text: str
    part: Literal["marker", "prompt", "text"]


class TokensRow(BaseModel):
    """One text; `num_tokens` counts it whole, `cut` is the end that had no room."""

    tokens: list[TokenPiece]
    num_tokens: int
    truncated: bool
    cut: str


class TokensReply(BaseModel):
    """In the order of the inputs."""

    data: list[TokensRow]
    max_length: int
    model: str


class SimilarityReply(BaseModel):
    """Cosines [texts, texts] or [texts, documents]."""

    matrix: list[list[float]]
    truncated: list[bool]
    model: str
    usage: Usage


class MapReply(BaseModel):
    """Points of the index: `x` and `y` base64 of little-endian float32, `links` of int32 pairs.

    `before_x` and `before_y` are where the first of two `models` had put them.
    """

    num_points: int
    num_rows: int
    x: str
    y: str
    before_x: str | None
    before_y: str | None
    models: list[str]
    ids: list[str]
    columns: dict[str, dict[str, Any]]
    links: str


class ClassifyRow(BaseModel):
    """The labels that apply, and every class's probability."""

    index: int
    labels: list[str]
    probabilities: dict[str, float]
    truncated: bool


class ClassifyReply(BaseModel):
    """In the order of the inputs."""

    object: Literal["list"]
    data: list[ClassifyRow]
    model: str
    classes: list[str]
    usage: Usage


class ModerationRow(BaseModel):
    """OpenAI's verdict, and whether the text was cut."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    truncated: bool


class ModerationsReply(BaseModel):
    """OpenAI's."""

    id: str
    model: str
    results: list[ModerationRow]


class ModelRow(BaseModel):
    """The served model and what it is."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    fingerprint: str
    dimensions: int
    max_length: int
    endpoints: list[str]
    index: dict[str, Any] | None
    classes: list[str] | None


class ModelsReply(BaseModel):
    """One row."""

    object: Literal["list"]
    data: list[ModelRow]


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """OpenAI's."""

    error: ErrorDetail
