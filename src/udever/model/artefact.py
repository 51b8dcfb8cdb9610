"""What a model is on disk: reading a folder's contract, fingerprinting it, writing a folder.

A folder this project saves holds `udever.json` (the contract, the fingerprint, reference vectors), the
weights or an adapter, the tokenizer, a model card, and the files by which sentence-transformers loads it.
"""

import base64
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from udever.errors import ContractError, DataError, ModelError, first_line
from udever.model.configuration import CONTRACT_FILE, effective
from udever.model.contract import Contract, Role
from udever.model.lengths import position_limit
from udever.model.packing import Pooling
from udever.model.tokens import template_ids
from udever.model.weights import inside

REFERENCE_TEXTS = ("Add two numbers.", "def add(a, b):\n    return a + b", "把两个数相加。")
"""What the reference vectors stand for: each text as a query, then each as a document."""
RECIPE_FILE = "recipe.toml"


class Base(BaseModel):
    """The backbone an adapter belongs to; `weights` is the digest of its weights."""

    model_config = ConfigDict(extra="forbid")

    name: str
    weights: str


class Saved(BaseModel):
    """The content of `udever.json`. `reference` is float32, little-endian, base64; `precision` is what the
    model computed it in.

    `files` are digests of the other files that decide vectors. They and the fingerprint are computed again at every
    load; what is written here is what they are compared with.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[2] = 2
    contract: Contract
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    reference: str
    files: dict[str, str]
    base: Base | None = None
    precision: str = "float32"


def encode_vectors(vectors: np.ndarray) -> str:
    """Vectors as base64 of little-endian float32."""
    return base64.b64encode(vectors.astype("<f4").tobytes()).decode()


def decode_vectors(text: str, rows: int) -> np.ndarray:
    """The inverse of `encode_vectors`."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(rows, -1)


def check_vectors(
    name: str, saved: Saved, fingerprint: str, reference: Callable[[], np.ndarray], dtype: torch.dtype
) -> None:
    """Raise ContractError unless a loaded model has the name it was saved under, and gives the vectors it gave then."""
    if fingerprint != saved.fingerprint:
        raise ContractError(
            f"{name}: the fingerprint of what was loaded is {fingerprint}, {CONTRACT_FILE} has {saved.fingerprint}; "
            f"the model was changed after saving, or another version of a package reads it differently: fetch or "
            f"save it again (verify=False loads it as it is)"
        )
    precise = {str(dtype).removeprefix("torch."), saved.precision} <= {"float32", "float64"}
    lowest = 0.9999 if precise else 0.98
    actual, expected = reference(), decode_vectors(saved.reference, 2 * len(REFERENCE_TEXTS))
    if actual.shape != expected.shape:
        raise ContractError(f"{name}: vectors have {actual.shape[1]} dimensions, saved were {expected.shape[1]}")
    cosine = float((actual * expected).sum(1).min())
    if not cosine >= lowest:  # `not >=` so that NaN fails too
        raise ContractError(
            f"{name}: the reference vectors saved with the model are not reproduced (cosine {cosine:.4f}); weights, "
            f"tokenizer or contract were changed after saving: fetch or save the model again (verify=False loads it as "
            f"it is)"
        )


def read_saved(folder: Path) -> Saved | None:
    """`udever.json` of a folder, or None where it has none. Raises ModelError where it is broken."""
    path = folder / CONTRACT_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict) and content.get("format") != 2:
            raise ModelError(f"{path} has format {content.get('format')!r}; expected 2: save the model again")
        saved = Saved.model_validate(content)
        decode_vectors(saved.reference, 2 * len(REFERENCE_TEXTS))
        return saved
    except ModelError:
        raise
    except (ValidationError, ValueError) as error:
        raise ModelError(f"{path} is broken: {str(error).splitlines()[-1].strip()}; save the model again") from error


def fingerprint(config: Any, weights_digest: str, tokenizer_digest: str, contract: Contract) -> str:
    """One name for a vector space: configuration, weights, tokenizer and contract, whatever folder they lie in.

    Two embedders with the same fingerprint, run in the same precision by the same versions, give the same vectors.
    """
    settings = json.dumps(effective(config), sort_keys=True, default=str)
    parts = (settings, weights_digest, tokenizer_digest, contract.model_dump_json())
    return blake3("\0".join(parts).encode()).hexdigest()[:32]


def joined(*digests: str) -> str:
    """One digest of several, in their order."""
    return blake3("\0".join(digests).encode()).hexdigest()


def check_files(folder: Path, saved: Saved, found: Mapping[str, str]) -> None:
    """Raise ContractError naming the first file that is not the one that was saved, or was not there then."""
    for name in sorted(saved.files.keys() | found.keys()):
        if saved.files.get(name) != found.get(name):
            change = "was changed" if name in saved.files and name in found else "is not what was saved"
            raise ContractError(
                f"{folder / name} {change} after saving; fetch or save the model again (verify=False loads it as it is)"
            )


def trained_on(folder: Path) -> frozenset[str]:
    """The tasks a model was trained on, by its own account.

    From the list `trained_on` in the front matter of README.md and from `trained_on` in the [data] table of
    recipe.toml. Raises DataError where one of them is no list of names.
    """
    named: list[str] = []
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        match = re.match(r"---\n(.*?)\n---\s", text, re.DOTALL)
        if match and "trained_on" in match[1]:  # parsing a page of scores takes longer than loading the model
            named += _names(_front_matter(match[1]).get("trained_on"), card)
    recipe = recipe_of(folder)
    if recipe is not None:
        data = recipe.get("data")
        named += _names(data.get("trained_on") if isinstance(data, dict) else None, folder / RECIPE_FILE)
    return frozenset(named)


def recipe_of(folder: Path) -> dict[str, Any] | None:
    """The sections of the recipe.toml that training left in a model folder; None where there is none.

    Raises DataError for one that is no TOML.
    """
    return read_object(folder / RECIPE_FILE, tomllib.loads)


def read_object(path: Path, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    """The object in a file that training left, by `parse`; None where there is none. Raises DataError for another."""
    if not path.is_file():
        return None
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds {str(content)[:40]!r}; expected an object as training writes it")
    return content


def _front_matter(text: str) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}  # a card is prose; one that is broken says nothing
    return content if isinstance(content, dict) else {}


def _names(value: Any, path: Path) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{path}: trained_on is {str(value)[:60]!r}; expected a list of task names")
    return value


_PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
BITFIT_FILE = "bitfit.safetensors"


def adapter_files(folder: Path) -> list[Path]:
    """The files of the adapter in `folder`; none where there is no adapter.

    Raises ModelError for half an adapter, or one whose weights are a pickle.
    """
    if (folder / BITFIT_FILE).is_file():
        return [folder / BITFIT_FILE]
    there = [folder / name for name in _PEFT_FILES if (folder / name).is_file()]
    if (folder / _PEFT_FILES[0]).is_file() and len(there) == 1:
        raise ModelError(f"{folder} has {_PEFT_FILES[0]} without {_PEFT_FILES[1]}; fetch the adapter again")
    return there if len(there) == len(_PEFT_FILES) else []


def plain_contract(hf_tokenizer: Any, config: Any) -> Contract:
    """The contract of a decoder that says nothing of embeddings: what its tokenizer adds, closed by its EOS.

    Last-token pooling, causal, at most 512 tokens.
    """
    prefix, suffix = template_ids(hf_tokenizer)
    closing = hf_tokenizer.eos_token_id if hf_tokenizer.eos_token_id is not None else hf_tokenizer.sep_token_id
    if not suffix and closing is None:
        raise ModelError("the tokenizer has no end-of-text token to pool at; give the tokenizer an eos_token")
    if not suffix:
        suffix = (int(closing or 0),)
    role = Role(prefix_ids=prefix, suffix_ids=suffix)
    max_length = min(512, position_limit(config) or 512)
    return Contract(query=role, document=role, symmetric=role, max_length=max_length)


@dataclass(frozen=True)
class SentenceTransformersFolder:
    """What a sentence-transformers folder says: where its weights are and how they are used."""

    weights: Path
    pooling: Pooling
    pool_prompt: bool
    normalize: bool
    max_length: int | None
    prompts: dict[str, str]
    default_prompt: str
    dimensions: int | None

    def contract(self, hf_tokenizer: Any, config: Any, *, causal: bool) -> Contract:
        """As a contract: the tokenizer's own markers, the folder's prompts, pooling and length."""
        prefix, suffix = template_ids(hf_tokenizer)
        limits = (
            self.max_length,
            hf_tokenizer.model_max_length,
            getattr(config, "max_position_embeddings", None),
        )

        def role(prompt: str) -> Role:
            return Role(prefix_ids=prefix, suffix_ids=suffix, prompt=prompt)

        return Contract(
            pooling=self.pooling,
            attention="causal" if causal else "bidirectional",
            max_length=min(int(limit) for limit in limits if limit),
            normalize=self.normalize,
            query=role(self.prompts.get("query", "")),  # the default is for `encode` alone, as over there
            document=role(self.prompts.get("document", "")),
            symmetric=role(self.default_prompt),
            pool_prompt=self.pool_prompt,
            dimensions=self.dimensions,
        )


_POOLING_MODES: dict[str, Pooling] = {
    "lasttoken": "last",
    "mean": "mean",
    "weightedmean": "weighted_mean",
}
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}


def read_sentence_transformers(folder: Path) -> SentenceTransformersFolder | None:
    """Read a sentence-transformers folder, or return None where it is none.

    Raises ModelError for a module or pooling that the path does not have: it would change the vectors.
    """
    if not (folder / "modules.json").is_file():
        return None
    try:
        paths = {m["type"].rpartition(".")[2]: m["path"] for m in _read_json(folder / "modules.json")}
        outside = next((path for path in paths.values() if not inside(path)), None)
    except (TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{folder}/modules.json is no list of modules with type and path") from error
    if outside is not None:
        raise ModelError(f"{folder}/modules.json names {outside!r}; expected folders below its own")
    modules = {name: folder / path for name, path in paths.items()}
    unknown = set(modules) - {"Transformer", "Pooling", "Normalize"}
    if unknown or not {"Transformer", "Pooling"} <= set(modules):
        what = ", ".join(sorted(unknown)) or "no Transformer or Pooling"
        raise ModelError(f"{folder}/modules.json has {what}; expected Transformer, Pooling and perhaps Normalize")
    transformer = modules["Transformer"]
    settings = next((_read_json(p) for p in (transformer / "sentence_bert_config.json",) if p.is_file()), {})
    if settings.get("do_lower_case"):
        raise ModelError(f"{folder} lower-cases its input (do_lower_case), which is not supported; set it false")
    pooling = _read_json(modules["Pooling"] / "config.json")
    whole = _read_json(folder / "config_sentence_transformers.json", {})
    prompts = {name: prompt for name, prompt in (whole.get("prompts") or {}).items() if prompt}
    return SentenceTransformersFolder(
        weights=transformer,
        pooling=_pooling(pooling, folder),
        pool_prompt=pooling.get("include_prompt", True),
        normalize="Normalize" in modules,
        max_length=settings.get("max_seq_length"),
        prompts=prompts,
        default_prompt=prompts.get(whole.get("default_prompt_name") or "", ""),
        dimensions=whole.get("truncate_dim"),
    )


def _pooling(config: dict[str, Any], folder: Path) -> Pooling:
    modes = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)]
    if "pooling_mode" in config:
        named = config["pooling_mode"]
        modes = [named] if isinstance(named, str) else list(named)
    if len(modes) != 1 or modes[0] not in ("lasttoken", "mean", "weightedmean"):
        raise ModelError(f"{folder} pools by {modes}; expected one of lasttoken, mean, weightedmean")
    return _POOLING_MODES[modes[0]]


def _read_json(path: Path, default: Any = None) -> Any:
    if default is not None and not path.is_file():
        return default
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {first_line(error)}") from error


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON with a closing newline."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
