"""The configuration of a BLOOM, by transformers' names and without importing it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self


@dataclass
class BloomConfig:
    """What config.json of a BLOOM says; defaults are transformers'."""

    model_type: ClassVar[str] = "bloom"

    vocab_size: int = 250880
    hidden_size: int = 64
    n_layer: int = 2
    n_head: int = 8
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    pad_token_id: int | None = None
    apply_residual_connection_post_layernorm: bool = False
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    pretraining_tp: int = 1
    slow_but_exact: bool = False
    tie_word_embeddings: bool = True
    architectures: list[str] | None = None
    dtype: Any = None
    transformers_version: str | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self | None:
        """config.json as it is; None where it says more or otherwise than the entries above: for transformers to read.

        A value of another type (`"24"`, `24.0`, `true` for a number) is one such.
        """
        kinds = {field.name: _FREE.get(field.name, type(field.default)) for field in fields(cls)}
        values = {name: value for name, value in raw.items() if name != "model_type"}
        usual = all(
            (value is None and name in _FREE) or type(value) is kinds.get(name) for name, value in values.items()
        )
        return cls(**values) if usual else None

    @property
    def num_hidden_layers(self) -> int:
        """Layers, as other families call them."""
        return self.n_layer

    def get_text_config(self) -> Self:
        """The part that is about text: all of it."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Every entry, defaults included."""
        return {"model_type": self.model_type, "is_encoder_decoder": False, **asdict(self)}

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json as transformers writes it."""
        from transformers import BloomConfig as Theirs

        said = {name: value for name, value in self.to_dict().items() if name != "dtype"}
        theirs = Theirs.from_dict({name: value for name, value in said.items() if value is not None or name in _NULL})
        theirs.dtype = self.dtype
        theirs.save_pretrained(folder)


_NULL = ("bos_token_id", "eos_token_id", "pad_token_id")
_FREE = {**dict.fromkeys(_NULL, int), "architectures": list, "dtype": str, "transformers_version": str}
"""Entries that may be null."""
