"""The base of every settings class, and one line for what is wrong with a value."""

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from udever.nearest import nearest, suggestion


class Settings(BaseModel):
    """Settings that refuse unknown keys, values of another type, infinities, and changes after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """The first complaint about settings of type `root`, as one line; unknown keys come with the nearest known."""
    first = _first(error)
    where, section = _follow(first["loc"], root)
    name = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = list(section.model_fields)
        return f"unknown key {name!r}; {suggestion(where[-1], known, 'known keys:')}"
    if first["type"] == "missing":
        return f"key {name!r} is missing; add it"
    message = first["msg"]
    if first["type"] == "literal_error":
        allowed = re.findall(r"'(.*?)'", message)
        return f"{name} is {first['input']!r}; {suggestion(str(first['input']), allowed, 'expected one of')}"
    if first["type"] == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{name}: {message}" if name else message
    return f"{name} is {first['input']!r}; {message[0].lower()}{message[1:]}"


def _first(error: ValidationError) -> Any:
    """The first complaint; of a missing key and a mistyped one that stands for it the latter."""
    complaints = error.errors()
    first = complaints[0]
    if first["type"] != "missing":
        return first
    *section, key = first["loc"]
    mistyped = (
        other
        for other in complaints
        if other["type"] == "extra_forbidden"
        and list(other["loc"][:-1]) == section
        and nearest(str(other["loc"][-1]), [str(key)])
    )
    return next(mistyped, first)


def _follow(loc: Sequence[str | int], root: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """The keys of `loc`, less what pydantic adds to name a member of a union; and the last settings class passed."""
    where: list[str] = []
    annotation: Any = root
    section = root
    for part in loc:
        options = [_plain(option) for option in _options(annotation)]
        models = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if models:
            section = models[0]
            where.append(str(part))
            field = section.model_fields.get(str(part))
            annotation = field.annotation if field else None
        elif isinstance(part, int) or any(isinstance(get_origin(o), type) and _is_map(o) for o in options):
            where.append(str(part))
            annotation = next((get_args(o)[-1] for o in options if get_args(o)), None)
    return where, section


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _plain(annotation: Any) -> Any:
    """`annotation` without what Annotated[...] adds."""
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def _is_map(annotation: Any) -> bool:
    return issubclass(get_origin(annotation), Mapping)


def toml_lines(values: Mapping[str, Any]) -> list[str]:
    """`key = value` for each value, as TOML that reads back the same; a list of tables takes a line for each."""
    return [f"{_key(name)} = {_toml(value, lines=True)}\n" for name, value in values.items()]


def _toml(value: Any, *, lines: bool = False) -> str:
    import json

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_toml(content)}" for name, content in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        if lines and any(isinstance(item, Mapping) for item in value):
            return "[\n" + "".join(f"  {_toml(item)},\n" for item in value) + "]"
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # TOML writes single values as JSON does, but for this one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _toml(name)
