"""What the encode methods of `Embedder` take: for type checkers, and on its way inside."""

from dataclasses import dataclass
from typing import TypedDict

from udever.model.contract import RoleName


class EncodeOptions(TypedDict, total=False):
    """What `encode_query` and `encode_document` take besides texts and `convert_to_tensor`, for type checkers."""

    prompt: str | None
    instruction: str | None
    truncate_dim: int | None
    batch_size: int | None
    batch_tokens: int | None
    normalize_embeddings: bool | None
    convert_to_numpy: bool
    allow_empty: bool
    show_progress_bar: bool


class SymmetricOptions(EncodeOptions, total=False):
    """What `encode` takes."""

    prompt_name: RoleName | None


@dataclass(frozen=True)
class Asked:
    """What one call asked for; `dimensions` is its `truncate_dim`."""

    prompt: str | None
    instruction: str | None
    dimensions: int | None
    batch_size: int | None
    batch_tokens: int | None
    normalize: bool | None
    as_tensor: bool
    allow_empty: bool
    show_progress: bool
