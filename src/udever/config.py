"""Recipes: what to train, on what, and how, as strict settings read from TOML."""

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from udever.errors import RecipeError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSettings(_Section):
    """The backbone and how it is used.

    `markers`: "roles" puts [BOQ] [EOQ] around queries and [BOD] [EOD] around documents, "eos" closes both
    with the end-of-text token, "auto" takes roles where the tokenizer or its spare rows have room,
    "keep" leaves the contract of an embedder as it is.
    """

    base: str
    markers: Literal["auto", "roles", "eos", "keep"] = "auto"
    pooling: Literal["last", "mean", "weighted_mean"] = "last"
    attention: Literal["causal", "bidirectional"] = "causal"
    max_length: int = Field(default=300, ge=4)


class DataSettings(_Section):
    """Pairs files (Parquet or JSONL); rows whose `split` is held_out are left out of training."""

    pairs: list[str] = Field(min_length=1)


class TrainingSettings(_Section):
    """The optimisation. Defaults are the paper's where it states them.

    `batch_size` counts pairs. `warmup` is the share of all steps in which the learning rate rises.
    `precision` "auto" computes in bfloat16 where the device multiplies it; weights stay float32.
    """

    tuning: Literal["auto", "full", "bitfit", "lora"] = "auto"
    batch_size: int = Field(default=64, ge=2)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    temperature: float = Field(default=0.05, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(default=0.08, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = Field(default=0, ge=0)
    lora_rank: int = Field(default=16, ge=1)
    lora_alpha: float = Field(default=32.0, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)


class OutputSettings(_Section):
    """Where the model goes. `save` "merged" writes all weights, "adapter" only what training moved."""

    folder: str
    save: Literal["merged", "adapter"] = "merged"


class Recipe(_Section):
    """A whole training run; `udever train` reads one from TOML."""

    model: ModelSettings
    data: DataSettings
    training: TrainingSettings = TrainingSettings()
    output: OutputSettings

    def to_toml(self) -> str:
        """The resolved recipe, every value written out; `read_recipe` reads it back the same."""
        sections = self.model_dump(exclude_none=True)
        return "\n".join(f"[{name}]\n" + "".join(_toml_lines(values)) for name, values in sections.items())


def _toml_lines(values: dict[str, Any]) -> Iterator[str]:
    import json

    for key, value in values.items():
        yield f"{key} = {json.dumps(value, ensure_ascii=False)}\n"  # TOML writes these values as JSON does


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; relative paths in it are taken from where the command runs.

    Raises RecipeError in one line: for a missing file, bad TOML, an unknown key (naming the nearest known
    one), a missing key, or a value of the wrong type or range.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"{path} is not a file; give a recipe in TOML")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error)}") from error


def training_settings(**values: Any) -> TrainingSettings:
    """`TrainingSettings` from single values. Raises RecipeError in one line."""
    try:
        return TrainingSettings(**values)
    except ValidationError as error:
        raise RecipeError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    name = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = _known_keys(where[:-1])
        close = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key {name!r}; {hint}"
    if first["type"] == "missing":
        return f"key {name!r} is missing; add it"
    return f"{name} is {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}"


def _known_keys(section: list[str]) -> list[str]:
    if not section:
        return list(Recipe.model_fields)
    field = Recipe.model_fields.get(section[0])
    annotation = field.annotation if field else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(annotation.model_fields)
    return list(TrainingSettings.model_fields)
