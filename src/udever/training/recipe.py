"""Recipes: what to train, on what, and how, as strict settings read from TOML."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from udever.errors import RecipeError
from udever.files import not_utf8
from udever.model.contract import Contract
from udever.nearest import path_suggestion
from udever.pairs.settings import DataSettings
from udever.settings import Settings, explain, toml_lines
from udever.training.objectives import LossSettings
from udever.training.trackers import TrackerName

RECIPE_FILE = "recipe.toml"
Precision = Literal["auto", "float32", "bfloat16"]


class ModelSettings(Settings):
    """The backbone and how it is used.

    * `markers`: "roles" puts [BOQ] [EOQ] around queries and [BOD] [EOD] around documents. "eos" closes both with the
      end-of-text token. "keep" leaves the markers of the base as they are. "auto" keeps the markers of a base that is
      already an embedder; for any other base it takes "roles" where the tokenizer or its spare rows have room. Unused
      tokens of the vocabulary, such as Gemma's, are taken only where "roles" is written.
    * `pooling`, `attention`, `max_length`: for a base that is already an embedder (saved by this project or
      sentence-transformers, or published and known by name), and with "keep", only those that the recipe names replace
      the base's own.
    * `suffix`: words put after every text in place of a closing token, such as "\\nThis in one word:". Their last
      token is pooled; a language model says more there than at a token that it knows as an end.
    """

    base: str
    markers: Literal["auto", "roles", "eos", "keep"] = "auto"
    pooling: Literal["last", "mean", "weighted_mean"] = "last"
    attention: Literal["causal", "bidirectional"] = "causal"
    max_length: int = Field(default=300, ge=4)
    suffix: str = ""

    @model_validator(mode="after")
    def _one_close(self) -> Self:
        if self.suffix and self.markers != "auto":
            raise ValueError(f"markers is {self.markers!r} beside a suffix, which takes their place; leave markers out")
        return self


class TrainingSettings(Settings):
    """The optimisation. Defaults are the paper's where it states them.

    * `batch_size`: pairs in the contrastive batch over all processes.
    * `max_length`: where training cuts texts, in tokens, markers included, if before the model's own length; the model
      is saved and scored with its own.
    * `memory_gb`: memory for the activations of one process, besides the weights (default: a quarter of the machine's
      memory). The batch is computed in micro-batches that fit; gradients do not depend on it.
    * `token_cache_gb`: memory for the token ids of texts seen before, so that many passes tokenise each text once.
    * `warmup`: share of all steps, at the start, in which the learning rate rises. `decay`, for the constant schedule
      only: share of all steps, at the end, in which it falls to zero.
    * `rates`: patterns of parameter names, each with the factor of their learning rate; the first that fits counts.
    * `average`, such as 0.999: a moving average of the weights, which keeps that share of itself at every step, is
      scored and saved in place of the weights.
    * `beta2`: AdamW's.
    * `precision`: "auto" computes in bfloat16 where the device multiplies it; weights stay float32.
    * `embeddings`: whether `tuning` "full" trains the embedding table; "auto" freezes a table of 100 million numbers
      or more, whose gradient and moments would be written whole at every step.
    * `gradient_checkpointing`: keeps only the input of each layer and computes the rest again.
    * `sharding`: "full" spreads weights, gradients and optimiser state over the processes (FSDP2).
    """

    tuning: Literal["auto", "full", "bitfit", "lora"] = "auto"
    embeddings: Literal["auto", "train", "freeze"] = "auto"
    batch_size: int = Field(default=64, ge=2)
    max_length: int | None = Field(default=None, ge=4)
    memory_gb: float | None = Field(default=None, gt=0)
    token_cache_gb: float = Field(default=0.0, ge=0)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(default=0.08, ge=0, le=1)
    decay: float = Field(default=0.0, ge=0, le=1)
    rates: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    average: float = Field(default=0.0, ge=0, lt=1)
    beta2: float = Field(default=0.999, gt=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    sharding: Literal["none", "full"] = "none"
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    lora_rank: int = Field(default=16, ge=1)
    lora_alpha: float = Field(default=32.0, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _schedule_is_one(self) -> "TrainingSettings":
        if self.decay and self.schedule == "cosine":
            raise ValueError('decay stands beside schedule = "cosine", which falls by itself; leave one of them out')
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup and decay are {self.warmup + self.decay:g} of the steps together; at most 1")
        return self


class WatchSettings(Settings):
    """What is written while training runs, and how often, in steps.

    Checkpoints go to `checkpoints` (default: the output folder's name with "-checkpoints"), the last `keep` stay.
    `evaluate_every` 0 scores the held-out rows of the data before the first and after the last step alone,
    `evaluate_queries` 0 never. A query searches all positives of the data, a sample where there are more than
    `evaluate_candidates`, or the column `evaluate_column` of the file `evaluate_corpus`. A step's numbers always go to
    `log.jsonl` beside the checkpoints, and to the `trackers` that are named.
    """

    checkpoints: str | None = None
    checkpoint_every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    evaluate_every: int = Field(default=0, ge=0)
    evaluate_queries: int = Field(default=1000, ge=0)
    evaluate_candidates: int = Field(default=5000, ge=1)
    evaluate_corpus: str | None = None
    evaluate_column: str = Field(default="text", min_length=1)
    trackers: list[TrackerName] = Field(default_factory=list)


class OutputSettings(Settings):
    """Where the model goes. `save` "merged" writes all weights, "adapter" only what training moved; "auto": LoRA on a
    base of 50 million parameters and more outside the embedding table as an adapter, all else merged.

    `dtype` is the precision of merged weights; "base": that of the base, as its `config.json` says.
    """

    folder: str
    save: Literal["auto", "merged", "adapter"] = "auto"
    dtype: Literal["base", "float32", "bfloat16", "float16"] = "base"


class Recipe(Settings):
    """A whole training run; `udever train` reads one from TOML."""

    model: ModelSettings
    data: DataSettings
    training: TrainingSettings = TrainingSettings()
    loss: LossSettings = LossSettings()
    watch: WatchSettings = WatchSettings()
    output: OutputSettings

    @classmethod
    def read(cls, path: str | Path) -> "Recipe":
        """Read a recipe; relative paths in it are taken from where the command runs.

        Raises RecipeError in one line: for a missing file, bad TOML, an unknown key (naming the nearest known
        one), a missing key, or a value of the wrong type or range.
        """
        path = Path(path)
        if not path.is_file():
            raise RecipeError(f"{path} is not a file; {path_suggestion(path, 'give a recipe in TOML')}")
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is {not_utf8(error)}") from error
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{path} is not valid TOML: {error}") from error
        except ValidationError as error:
            raise RecipeError(f"{path}: {explain(error, cls)}") from error

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints and log go."""
        output = Path(self.output.folder)
        return Path(self.watch.checkpoints or output.with_name(f"{output.name}-checkpoints"))

    def resolved(self, contract: Contract) -> "Recipe":
        """The recipe with what a model has whose contract this is, in place of defaults that were not asked for."""
        own = contract.model_dump(include={"pooling", "attention", "max_length"})
        return self.model_copy(update={"model": self.model.model_copy(update=own)})

    def to_toml(self) -> str:
        """The recipe with every value written out; `read` gives it back the same."""
        sections = self.model_dump(exclude_none=True)
        return "\n".join(f"[{name}]\n" + "".join(toml_lines(values)) for name, values in sections.items())


def training_settings(**values: Any) -> TrainingSettings:
    """`TrainingSettings` from single values. Raises RecipeError in one line."""
    try:
        return TrainingSettings(**values)
    except ValidationError as error:
        raise RecipeError(explain(error, TrainingSettings)) from error
