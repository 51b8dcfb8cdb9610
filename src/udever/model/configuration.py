"""A model's configuration: BLOOM's without importing transformers, others by it or as `DecoderConfig`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from udever.errors import ModelError, first_line
from udever.model.decoder_config import DecoderConfig

CONTRACT_FILE = "udever.json"
"""What a folder that this project saved has besides."""
_ATTENTION = {"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"}
_UNDECIDED = frozenset((
    "_name_or_path", "architectures", "auto_map", "bos_token_id", "cls_token_id", "decoder_start_token_id",
    "dtype", "eos_token_id", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label",
    "initializer_range", "label2id", "output_attentions", "output_hidden_states", "pad_token_id", "prefix",
    "problem_type", "pruned_heads", "return_dict", "sep_token_id", "task_specific_params", "tie_word_embeddings",
    "tokenizer_class", "torch_dtype", "transformers_version", "use_cache", "attn_implementation",
    "chunk_size_feed_forward", "quantization_config",
))  # fmt: skip
"""Entries of a configuration that decide no vector: names, versions, generation, training. All others count."""
QUANTISED = {"quant_method": "udever_int8"}
"""The `quantization_config` of a folder that this project wrote in eight bits; all others are refused."""


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


def read_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The model's configuration. Raises ModelError in one line where there is none or it cannot be used as it is."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no config.json; expected a model folder")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        _check_config(raw, path)
        kind = raw.get("model_type")
        own = BloomConfig.of(raw) if kind == "bloom" else _decoder_config(raw, folder)
        if own is not None:
            return own
        from transformers import CONFIG_MAPPING, AutoConfig  # takes as long as the rest of a small model

        if kind not in CONFIG_MAPPING or "auto_map" in raw or (kind == "mistral" and "layer_types" in raw):
            return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
        return CONFIG_MAPPING[kind].from_dict(raw)  # all that AutoConfig would do, without reading the file again
    except ModelError:
        raise
    except Exception as error:  # transformers raises a dozen kinds for a broken file
        raise ModelError(f"{path} cannot be used: {first_line(error)}") from error


def _decoder_config(raw: Mapping[str, Any], folder: Path) -> DecoderConfig | None:
    """Of a folder that this project saved, without code of its own: it was compared with transformers before."""
    ours = (folder / CONTRACT_FILE).is_file() and not {"auto_map", "torch_dtype"} & raw.keys()
    return DecoderConfig.of(raw, _UNDECIDED) if ours else None


def stored_dtype(folder: Path) -> torch.dtype | None:
    """The precision of the weights as the configuration in a folder says it; None where it says none.

    Raises as `read_config`.
    """
    said = read_config(folder).dtype
    found = getattr(torch, said, None) if isinstance(said, str) else said
    return found if isinstance(found, torch.dtype) else None


def _check_config(raw: Any, path: Path) -> None:
    if not isinstance(raw, dict):
        raise ModelError(f"{path} is no JSON object; expected a model's configuration")
    for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        if raw.get(name) is not None and raw[name] not in _ATTENTION:
            raise ModelError(f"{path} asks for the attention code {raw[name]!r}, which is not run; remove {name}")
    quantised = raw.get("quantization_config")
    if quantised and quantised != QUANTISED:
        raise ModelError(f"{path} describes quantised weights, which are not read; give the model's float weights")


def is_quantised(config: Any) -> bool:
    """Whether a folder's configuration says that its weights are stored in eight bits."""
    return getattr(config, "quantization_config", None) == QUANTISED


def effective(config: Any) -> dict[str, Any]:
    """Every entry of a configuration that may decide vectors, defaults included; unknown entries count."""

    def kept(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): kept(item) for key, item in value.items() if key not in _UNDECIDED}
        return [kept(item) for item in value] if isinstance(value, list | tuple) else value

    return kept(config.to_dict())
