"""The contract: all that turns a text into the right vector besides the weights and the tokenizer."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from udever.model.packing import Pooling

RoleName = Literal["query", "document", "symmetric"]


class Role(BaseModel):
    """What surrounds a text: `prefix_ids`, then `prompt` and text tokenised as one, then `suffix_ids`.

    The ids stay through every truncation; the text is cut to make room for them. `suffix_is_text`: the suffix is words
    ("This in one word:"), which texts may hold too, and no marker.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    prompt: str = ""
    suffix_is_text: bool = False

    @model_serializer(mode="wrap")
    def _without_false(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Said where it is true alone: fingerprints are of what a contract says, not of what it could say."""
        written = serialize(self)
        if not self.suffix_is_text:
            written.pop("suffix_is_text", None)
        return written


class Contract(BaseModel):
    """How a model is to be used.

    `max_length` counts every token, markers included. `pool_prompt=False` leaves a prompt, and the
    markers before it, out of mean pooling. `instruction` is the template an `instruction=` is written into, as the
    query's prompt. `dimensions` cuts every vector by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pooling: Pooling = "last"
    attention: Literal["causal", "bidirectional"] = "causal"
    max_length: int = Field(default=512, ge=2)
    normalize: bool = True
    query: Role
    document: Role
    symmetric: Role
    pool_prompt: bool = True
    instruction: str = "Instruct: {instruction}\nQuery: "
    dimensions: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _instruction_has_its_place(self) -> "Contract":
        if "{instruction}" not in self.instruction:
            raise ValueError(f"instruction is {self.instruction!r}; expected a template with {{instruction}} in it")
        return self

    @model_validator(mode="after")
    def _room_for_text(self) -> "Contract":
        for name in ("query", "document", "symmetric"):
            role = self.role(name)
            if len(role.prefix_ids) + len(role.suffix_ids) >= self.max_length:
                raise ValueError(f"max_length {self.max_length} leaves no room for text beside the {name} markers")
        return self

    def role(self, name: RoleName) -> Role:
        """The role of that name."""
        return getattr(self, name)

    @property
    def marker_ids(self) -> frozenset[int]:
        """Every id that some role adds, but for words; no text may produce one."""
        roles = (self.query, self.document, self.symmetric)
        closing = (token for role in roles if not role.suffix_is_text for token in role.suffix_ids)
        return frozenset(token for role in roles for token in role.prefix_ids).union(closing)
