"""Recipes: what to train, on what, and how, as strict settings read from TOML."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from udever.errors import RecipeError
from udever.pairs.settings import DataSettings
from udever.settings import Section, explain, toml_lines
from udever.training.objectives import LossOptions


class ModelSettings(Section):
    """The backbone and how it is used.

    `markers`: "roles" puts [BOQ] [EOQ] around queries and [BOD] [EOD] around documents, "eos" closes both
    with the end-of-text token, "keep" leaves them as they are, "auto" takes roles where the tokenizer or its spare
    rows have room and keeps those of a base that is an embedder already. Of such a base, and with "keep", only those
    of `pooling`, `attention` and `max_length` change that are given.
    """

    base: str
    markers: Literal["auto", "roles", "eos", "keep"] = "auto"
    pooling: Literal["last", "mean", "weighted_mean"] = "last"
    attention: Literal["causal", "bidirectional"] = "causal"
    max_length: int = Field(default=300, ge=4)


class TrainingSettings(Section):
    """The optimisation. Defaults are the paper's where it states them.

    `batch_size` counts pairs: the contrastive batch over all processes. `memory_gb` is what the activations of
    one process may take beside the weights (default: a quarter of what is free); the batch is worked off in
    micro-batches that fit, and gradients do not depend on it. `warmup` is the share of all steps in which
    the learning rate rises. `precision` "auto" computes in bfloat16 where the device multiplies it; weights
    stay float32. `gradient_checkpointing` saves each layer's input alone and computes the rest again.
    `sharding` "full" spreads weights, gradients and optimiser over the processes (FSDP2).
    """

    tuning: Literal["auto", "full", "bitfit", "lora"] = "auto"
    batch_size: int = Field(default=64, ge=2)
    memory_gb: float | None = Field(default=None, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(default=0.08, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    sharding: Literal["none", "full"] = "none"
    seed: int = Field(default=0, ge=0)
    lora_rank: int = Field(default=16, ge=1)
    lora_alpha: float = Field(default=32.0, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)


class LossSettings(Section):
    """The terms of the contrastive loss; `objectives.LossOptions` says what each does.

    `matryoshka` trains the first dimensions of these numbers too, by `matryoshka_weights` (1 each).
    """

    temperature: float = Field(default=0.05, gt=0)
    margin: float | None = Field(default=None, ge=0)
    anchor_anchor: bool = False
    document_document: bool = False
    matryoshka: list[Annotated[int, Field(ge=1)]] = Field(default=[])
    matryoshka_weights: list[Annotated[float, Field(gt=0)]] = Field(default=[])
    focal_gamma: float = Field(default=0.0, ge=0)
    distillation: float = Field(default=0.0, ge=0)
    teacher_temperature: float = Field(default=0.05, gt=0)

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.matryoshka_weights and len(self.matryoshka_weights) != len(self.matryoshka):
            raise ValueError(
                f"{len(self.matryoshka_weights)} matryoshka_weights for {len(self.matryoshka)} matryoshka "
                f"dimensions; give one each, or none"
            )
        return self

    def options(self) -> LossOptions:
        """The same for the loss function."""
        values = self.model_dump(exclude={"matryoshka", "matryoshka_weights"})
        return LossOptions(
            **values, dimensions=tuple(self.matryoshka), dimension_weights=tuple(self.matryoshka_weights)
        )


class WatchSettings(Section):
    """What is written while training runs, and how often, in steps.

    Checkpoints go to `checkpoints` (default: the output folder's name with "-checkpoints"), the last `keep` stay.
    `evaluate_every` 0 scores the held-out rows of the data at the end alone; a step's numbers always go to
    `log.jsonl` beside the checkpoints, and with `tensorboard` to its event files too.
    """

    checkpoints: str | None = None
    checkpoint_every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    evaluate_every: int = Field(default=0, ge=0)
    evaluate_queries: int = Field(default=1000, ge=1)
    tensorboard: bool = False


class OutputSettings(Section):
    """Where the model goes. `save` "merged" writes all weights, "adapter" only what training moved."""

    folder: str
    save: Literal["merged", "adapter"] = "merged"


class Recipe(Section):
    """A whole training run; `udever train` reads one from TOML."""

    model: ModelSettings
    data: DataSettings
    training: TrainingSettings = TrainingSettings()
    loss: LossSettings = LossSettings()
    watch: WatchSettings = WatchSettings()
    output: OutputSettings

    def to_toml(self) -> str:
        """The resolved recipe, every value written out; `read_recipe` reads it back the same."""
        sections = self.model_dump(exclude_none=True)
        return "\n".join(f"[{name}]\n" + "".join(toml_lines(values)) for name, values in sections.items())


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
        raise RecipeError(f"{path}: {explain(error, Recipe)}") from error


def training_settings(**values: Any) -> TrainingSettings:
    """`TrainingSettings` from single values. Raises RecipeError in one line."""
    try:
        return TrainingSettings(**values)
    except ValidationError as error:
        raise RecipeError(explain(error, TrainingSettings)) from error
