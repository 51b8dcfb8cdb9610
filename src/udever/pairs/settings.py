"""What a recipe says about its data: which datasets, which of their rows, and how often each is drawn."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from udever.pairs.schema import Kind, Role
from udever.settings import Settings

BY_TEXT, BY_FILE = "text", "file"
UNIT = "source"
"""The column of pairs into which the file or the column by which rows are held out is read."""


_OF_TEXTS = ("language", "teacher", "skip_untaught", "closeness", "neighbours", "centre")
"""What only a dataset of plain texts takes."""

_OF_PAIRS = ("streaming", "held_out", "num_negatives", "document_instruction")
"""What it does not take, as it has no pairs."""


class DatasetSettings(Settings):
    """One dataset of the mixture, from `path` (a file, several, or a glob pattern) or from `hub`.

    * `columns`: the file's name for each column of a pairs file that it calls otherwise (`anchor = "query"`).
    * `weight`: the dataset's share of the batches, relative to the other weights.
    * `split`, `languages`, `cap`: only rows of this split are used and, with `languages`, only those whose two sides
      are both in one of these languages; of these at most `cap`, a random sample.
    * `skip_empty`: leaves out rows whose anchor or positive is empty or missing, which are refused otherwise.
    * `held_out`: this share of the rows is scored and never trained on. `held_out_by` says which rows stay together:
      with "text" those that equal or near-equal texts join, with "file" those of a file, with the name of a column (of
      the file, or as pairs call it) those with the same value in it. The choice depends on `held_out_seed`, not on the
      seed of the training.
    * `kind`: the kind of all rows, whatever the file says.
    * `num_negatives`: how many hard negatives of each row are kept, from the first on.
    * `in_batch_negatives`: false compares an anchor only with its own hard negatives.
    * `instruction`: is put in front of the anchors (of symmetric and classification pairs: of both sides),
      `document_instruction` in front of the positives and negatives of asymmetric ones (`sides_of`).
    * `batch_size`: this dataset's own.
    * `streaming`: the dataset is read from first row to last, over and over, and never held in memory as a whole.
    * `language_temperature`: a language with n rows is drawn as if it had n to that power.

    `text` names the one column of a dataset of plain texts, `language` its column of languages. The model learns the
    vector that `teacher`, the outputs of `udever embed` or a pattern of them, has for each text: `closeness` weights
    1 - cosine of the two vectors, `neighbours` the difference between the similarities within the batch and those of
    the teacher. `centre` first subtracts their mean from the teacher's vectors, for a teacher whose vectors all point
    one way. A text without a vector of the teacher is an error, or left out with `skip_untaught`.
    """

    name: str | None = Field(default=None, min_length=1)
    path: str | list[str] | None = None
    hub: str | None = Field(default=None, min_length=1)
    config: str | None = None
    hub_split: str = "train"
    revision: str | None = None
    streaming: bool = False
    columns: dict[str, str] = Field(default={})
    weight: float | None = Field(default=None, gt=0)
    cap: int | None = Field(default=None, ge=2)
    skip_empty: bool = False
    held_out: float | None = Field(default=None, gt=0, lt=1)
    held_out_by: str = Field(default=BY_TEXT, min_length=1)
    held_out_seed: int = Field(default=0, ge=0)
    kind: Kind | None = None
    languages: list[str] | None = Field(default=None, min_length=1)
    instruction: str | None = None
    document_instruction: str | None = None
    num_negatives: int | None = Field(default=None, ge=0)
    in_batch_negatives: bool = True
    batch_size: int | None = Field(default=None, ge=2)
    split: Literal["train", "held_out"] = "train"
    language_temperature: float | None = Field(default=None, ge=0, le=1)
    text: str | None = Field(default=None, min_length=1)
    language: str | None = Field(default=None, min_length=1)
    teacher: str | list[str] | None = None
    skip_untaught: bool = False
    closeness: float = Field(default=1.0, ge=0)
    neighbours: float = Field(default=1.0, ge=0)
    centre: bool = False

    @property
    def teachers(self) -> list[str]:
        """The outputs of `udever embed` given."""
        return [self.teacher] if isinstance(self.teacher, str) else list(self.teacher or ())

    @property
    def paths(self) -> list[str]:
        """The paths and patterns given; none for a dataset of the hub."""
        return [self.path] if isinstance(self.path, str) else list(self.path or ())

    @property
    def reading(self) -> dict[str, str]:
        """For each column of pairs that the files call otherwise, its name there."""
        in_file = self.unit == UNIT and self.held_out_by not in (BY_FILE, UNIT)
        return {**self.columns, UNIT: self.held_out_by} if in_file else self.columns

    @property
    def unit(self) -> str:
        """What rows that are held out together share: "text", or a column of pairs."""
        from udever.pairs.columns import COLUMNS

        return self.held_out_by if self.held_out_by in (BY_TEXT, *COLUMNS) else UNIT

    @model_validator(mode="before")
    @classmethod
    def _texts_are_pairs_of_one_side(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("text"), str):
            return values
        columns: Any = values.get("columns", {})
        if not isinstance(columns, dict):
            return values
        named = dict.fromkeys(("anchor", "positive"), values["text"])
        if isinstance(values.get("language"), str):
            named |= {f"{side}_language": values["language"] for side in ("anchor", "positive")}
        return {"kind": "symmetric", **values, "columns": columns | named}

    @model_validator(mode="after")
    def _texts_and_teacher(self) -> Self:
        if self.text is None:
            given = [name for name in _OF_TEXTS if getattr(self, name) != type(self).model_fields[name].default]
            if given:
                raise ValueError(f'{given[0]} is for plain texts; name their column too, such as text = "text"')
            return self
        if not self.teachers:
            raise ValueError("plain texts are no pairs to learn from; give teacher, the output of a udever embed")
        given = [name for name in _OF_PAIRS if getattr(self, name) is not None and getattr(self, name) is not False]
        given += ["kind"] if self.kind != "symmetric" else []
        if given:
            raise ValueError(f"{given[0]} is for pairs; leave it out of a dataset of plain texts")
        if self.closeness == self.neighbours == 0:
            raise ValueError("closeness and neighbours are both 0, so nothing would be learned; raise one of them")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        from udever.pairs.columns import check_mapping

        if (self.hub is None) == (not self.paths):
            raise ValueError("a dataset comes from path or from hub; give one of the two")
        if self.hub is None and (self.config or self.revision or self.hub_split != "train"):
            raise ValueError("config, hub_split and revision belong to hub; a dataset with path has none of them")
        if self.held_out is None:
            if (self.held_out_by, self.held_out_seed) != (BY_TEXT, 0):
                raise ValueError("held_out_by and held_out_seed are set without held_out; give held_out, such as 0.1")
        elif self.streaming:
            raise ValueError("no share of a stream can be held out; leave out streaming or held_out")
        elif self.hub is not None and self.held_out_by == BY_FILE:
            raise ValueError('held_out_by is "file" for a dataset of the hub, without files; give "text" or a column')
        if self.streaming and self.language_temperature is not None:
            raise ValueError("a stream's languages are not known beforehand; leave language_temperature out")
        check_mapping(self.columns)
        return self


class DataSettings(Settings):
    """The datasets of a recipe: `pairs`, each file a dataset, and `[[data.datasets]]`, each with its settings.

    A batch holds rows of one dataset and one kind, or, with `mixed`, of all. How often a dataset is drawn: by
    weight where all have one; otherwise by the number of batches in one pass over it, to the power of
    `sampling_temperature` (1, the default: every row is seen equally often; 0: every dataset gives equally many
    batches; in between, small datasets are seen more often than large ones). `trained_on` names the evaluation
    tasks whose training data is among the datasets: `udever eval` marks their scores.
    """

    pairs: list[str] = Field(default=[])
    datasets: list[DatasetSettings] = Field(default=[])
    sampling_temperature: float | None = Field(default=None, ge=0, le=1)
    mixed: bool = False
    trained_on: list[str] = Field(default=[])

    @property
    def all_datasets(self) -> list[DatasetSettings]:
        """`pairs` and `datasets` as one list, each with a name of its own."""
        given = [DatasetSettings(path=path) for path in self.pairs] + self.datasets
        seen: Counter[str] = Counter(dataset.name for dataset in given if dataset.name)
        named = []
        for dataset in given:
            if dataset.name is None:
                base = dataset.hub or Path(dataset.paths[0]).stem
                name, number = base, 1
                while seen[name]:
                    number += 1
                    name = f"{base}-{number}"
                seen[name] += 1
                dataset = dataset.model_copy(update={"name": name})
            named.append(dataset)
        return named

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        given = self.all_datasets
        if not given:
            raise ValueError("there is no dataset; give data.pairs or [[data.datasets]]")
        names = Counter(dataset.name for dataset in given)
        name, count = names.most_common(1)[0]
        if count > 1:
            raise ValueError(f"{count} datasets are named {name!r}; give each a name of its own")
        weights = [dataset.weight for dataset in given]
        if any(weights) and not all(weights):
            without = given[weights.index(None)].name
            raise ValueError(f"dataset {without!r} has no weight and others have; give all of them one, or none")
        if any(weights) and self.sampling_temperature is not None:
            raise ValueError("sampling_temperature stands beside weights, which say it already; give one of the two")
        stream = next((dataset.name for dataset in given if dataset.streaming), None)
        if stream and len(given) > 1 and not all(weights):
            raise ValueError(f"the size of {stream!r} is unknown, as it streams; give every dataset a weight")
        if self.mixed and any(dataset.batch_size for dataset in given):
            raise ValueError("with mixed, a batch has rows of all datasets; leave their batch_size out")
        if self.mixed and any(dataset.text for dataset in given):
            raise ValueError("with mixed, a batch has pairs of all datasets; plain texts are none: leave mixed out")
        return self


Side = tuple[Role, str | None]
"""How the texts of one side of pairs are read: in which role, and with which instruction."""


def sides_of(kind: Kind, instruction: str | None = None, document_instruction: str | None = None) -> tuple[Side, Side]:
    """How a kind's anchors are read, and its positives and negatives: the same side twice but of asymmetric pairs.

    A classifier reads its texts as symmetric ones, so that is how `classification` is trained.
    """
    if kind == "asymmetric":
        return ("query", instruction), ("document", document_instruction)
    return ("symmetric", instruction), ("symmetric", instruction)
