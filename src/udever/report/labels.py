"""What is known of how each model was made, so that runs can be compared: from its recipe, and from the person."""

import csv
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udever.errors import DataError
from udever.files import not_utf8
from udever.nearest import path_suggestion, suggestion

if TYPE_CHECKING:
    from udever.evaluation.results import ModelScores

KINDS = ("symmetric", "asymmetric", "both")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmb]?)\s*", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_MOST_NAMED = 4
"""Languages that are named one by one; more are counted."""


@dataclass(frozen=True, slots=True)
class Label:
    """How a model was made; None for what is not known.

    `name` is how figures call it, `family` joins sizes of one kind by a line, `train_language` is the language
    of its training pairs (several joined by "+"), `kind` the kind of them (`KINDS`), `tuning` what moved (full,
    bitfit, lora), `size` the number of parameters.
    """

    name: str | None = None
    family: str | None = None
    train_language: str | None = None
    kind: str | None = None
    tuning: str | None = None
    size: int | None = None


FIELDS = tuple(field.name for field in fields(Label))


def label_of(model: "ModelScores") -> Label:
    """What the results themselves say: the number of parameters, and what training left with the model.

    Looks in `model_meta.json` under "udever" for "recipe" (the sections of recipe.toml), "training" (the content of
    training.json) and "label" (the fields of `Label`), each going over the one before.
    """
    details = model.meta.get("udever")
    details = details if isinstance(details, Mapping) else {}
    label = Label(size=model.num_parameters or None)
    recipe = details.get("recipe")
    if isinstance(recipe, Mapping):
        label = replace(label, **_from_recipe(recipe))
    training = details.get("training")
    if isinstance(training, Mapping):
        label = replace(label, **_from_training(training))
    given = details.get("label")
    return replace(label, **_checked(given, "model_meta.json")) if isinstance(given, Mapping) else label


def _from_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    training, backbone = recipe.get("training"), recipe.get("model")
    found: dict[str, Any] = {}
    if isinstance(training, Mapping) and training.get("tuning") not in (None, "auto"):
        found["tuning"] = str(training["tuning"])
    if isinstance(backbone, Mapping) and backbone.get("base"):
        found["family"] = re.sub(r"[-_]?\d+(\.\d+)?[mb]\d?$", "", Path(str(backbone["base"])).name, flags=re.IGNORECASE)
    return found


def _from_training(training: Mapping[str, Any]) -> dict[str, str]:
    """How the model was tuned, and the languages and kind of its pairs where every dataset says its own."""
    found = {"tuning": str(training["tuning"])} if training.get("tuning") else {}
    datasets = training.get("datasets")
    if not isinstance(datasets, Sequence) or not datasets or not all(isinstance(one, Mapping) for one in datasets):
        return found
    kinds = [set(one.get("kinds") or ()) for one in datasets]
    if all(kinds):
        found |= _kind(set().union(*kinds))
    rows = [set(one.get("languages") or ()) for one in datasets]
    if all(rows):
        found |= _languages(set().union(*rows))
    return found


def _kind(kinds: set[str]) -> dict[str, str]:
    if kinds == {"symmetric", "asymmetric"}:
        return {"kind": "both"}
    return {"kind": min(kinds)} if kinds in ({"symmetric"}, {"asymmetric"}) else {}


def _languages(rows: set[str]) -> dict[str, str]:
    """Of "fra-Latn -> python-Code" and the like, both sides; of rows that name no language, nothing is known."""
    sides = [{side for side in row.split(" -> ") if side != "?"} for row in rows]
    if not all(sides):
        return {}
    languages = sorted(set().union(*sides))
    return {"train_language": "+".join(languages) if len(languages) <= _MOST_NAMED else f"{len(languages)} languages"}


def read_labels(path: str | Path) -> dict[str, Label]:
    """Read labels by model from a TOML file with a table per model, or a CSV with a column `model`.

    A model is called by its name, the last part of its name, its revision, or name@revision. Keys are those of
    `Label`; size may be written 560m or 7.1b. Raises DataError naming the table or line that is wrong.
    """
    path = Path(path)
    try:
        rows = _read_toml(path) if path.suffix == ".toml" else _read_csv(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is {not_utf8(error)}") from error
    except (OSError, csv.Error, tomllib.TOMLDecodeError) as error:
        hint = path_suggestion(path, "give labels as TOML or CSV")
        raise DataError(f"{path} cannot be read: {error}; {hint}") from error
    labels: dict[str, Label] = {}
    for where, model, values in rows:
        if model in labels:
            raise DataError(f"{where}: model {model!r} is there twice; keep one")
        labels[model] = Label(**_checked(values, where))
    return labels


def _read_toml(path: Path) -> list[tuple[str, str, Mapping[str, Any]]]:
    rows: list[tuple[str, str, Mapping[str, Any]]] = []
    for model, values in tomllib.loads(path.read_text(encoding="utf-8")).items():
        if not isinstance(values, dict):
            raise DataError(f"{path}: {model} is {values!r}; expected a table for each model, such as [my-model]")
        rows.append((f"{path} [{model}]", model, values))
    return rows


def _read_csv(path: Path) -> list[tuple[str, str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if "model" not in (reader.fieldnames or ()):
            raise DataError(f"{path} has no column model; expected model and any of {', '.join(FIELDS)}")
        rows: list[tuple[str, str, Mapping[str, Any]]] = []
        for number, row in enumerate(reader, start=2):
            if None in row or not row["model"]:
                raise DataError(
                    f"{path} line {number}: expected {len(reader.fieldnames or ())} values, the model first"
                )
            values = {key: value for key, value in row.items() if key != "model" and value}
            rows.append((f"{path} line {number}", row["model"], values))
    return rows


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key, value in values.items():
        if key not in FIELDS:
            raise DataError(f"{where}: unknown key {key!r}; {suggestion(key, FIELDS, 'known keys:')}")
        if key != "size" and not isinstance(value, str):
            raise DataError(f"{where}: {key} is {value!r}; expected a text")
    if values.get("kind") not in (None, *KINDS):
        raise DataError(f"{where}: kind is {values['kind']!r}; {suggestion(str(values['kind']), KINDS)}")
    checked = dict(values)
    if "size" in checked:
        checked["size"] = _size(checked["size"], where)
    return checked


def _size(value: object, where: str) -> int:
    match = _SIZE.fullmatch(str(value))
    size = round(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size < 1:
        raise DataError(f"{where}: size is {value!r}; expected a number of parameters such as 560m")
    return size


def apply_labels(models: "Sequence[ModelScores]", labels: Mapping[str, Label]) -> list[Label]:
    """The label of each model: what `labels` gives over what the results say.

    Raises DataError for a label whose model is not among the results, naming the nearest, or is more than one.
    """
    found = [label_of(model) for model in models]
    names = [tuple(_names(model)) for model in models]
    for key, label in labels.items():
        matching = [index for index, known in enumerate(names) if key in known]
        if not matching:
            known = sorted({name for group in names for name in group[:2]})
            raise DataError(f"labels name {key!r}, no model of these results; {suggestion(key, known, 'models:')}")
        if len(matching) > 1:
            raise DataError(f"labels name {key!r}, which is {len(matching)} revisions; write name@revision")
        given = {name: getattr(label, name) for name in FIELDS if getattr(label, name) is not None}
        found[matching[0]] = replace(found[matching[0]], **given)
    return found


def _names(model: "ModelScores") -> Iterator[str]:
    yield model.name
    yield short_name(model.name)
    yield model.revision
    yield f"{model.name}@{model.revision}"
    yield f"{short_name(model.name)}@{model.revision}"


def short_name(name: str) -> str:
    """The last part of a model's name or path."""
    return name.rstrip("/").rpartition("/")[2] or name
