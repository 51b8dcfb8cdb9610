"""From a name to what an embedder is made of: backbone, tokenizer, contract, and the digests that name its space.

A name is a folder (one that this project saved, one of sentence-transformers, a plain model, an adapter alone), a model
that comes with this package, or one of the hub. Every file is read and digested once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from udever.bundled import bundled_folder
from udever.errors import ContractError, ModelError
from udever.model import adapters, artefact
from udever.model.backbone import (
    AttentionKind,
    Backbone,
    load_backbone,
    natural_attention,
    pick_dtype,
    vocab_size,
    width,
)
from udever.model.contract import Contract
from udever.model.gguf import gguf_folder
from udever.model.lengths import position_limit
from udever.model.pooling import Pooling
from udever.model.published import RECIPES, contract_of
from udever.model.tokens import load_hf_tokenizer
from udever.model.weights import digest_file, digest_weights, read_config, weight_files
from udever.packaged import packaged_folder

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "README.md"]
_DECIDING = ("config.json", "tokenizer.json", "tokenizer_config.json", "adapter_config.json")


class ContractChanges(TypedDict, total=False):
    """Entries of a contract that can be replaced while loading; `known_as` is the published model it is a copy of."""

    known_as: str
    pooling: Pooling
    attention: AttentionKind
    max_length: int
    normalize: bool
    dimensions: int | None
    instruction: str


@dataclass(frozen=True)
class How:
    """How a model is to be loaded."""

    dtype: torch.dtype
    device: torch.device
    revision: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    verify: bool = True


@dataclass(frozen=True)
class Loaded:
    """What `Embedder` is made of.

    `weights` is the digest of the weights with the adapter folded in, `base_weights` without it; `saved` is what
    `udever.json` says, where there is one.
    """

    backbone: Backbone
    tokenizer: Any
    contract: Contract
    saved: artefact.Saved | None
    weights: str
    base_weights: str


@dataclass(frozen=True)
class _Places:
    """Where the parts of a model lie: its own folder, the folder of its weights, and that of its adapter if any."""

    folder: Path
    weights: Path
    adapter: Path | None
    saved: artefact.Saved | None
    sentence_transformers: artefact.SentenceTransformersFolder | None


def load(name: str, how: How, changes: ContractChanges) -> Loaded:
    """Load a model by name under its contract with `changes`.

    Raises ModelError where it cannot be used, ContractError where its files are not those that were saved.
    """
    places = _places(resolve(name, how.revision, allow_pickle=how.allow_pickle), how)
    config = read_config(places.weights, trust_remote_code=how.trust_remote_code)
    tokenizer = load_hf_tokenizer(_tokenizer_folder(places), trust_remote_code=how.trust_remote_code)
    contract = _change(_contract(places, changes.get("known_as", name), tokenizer, config), changes)
    _check_fits(contract, config)
    weights, base_weights = _digests(places, verify=how.verify)
    backbone = load_backbone(
        places.weights,
        config,
        attention=contract.attention,
        dtype=how.dtype,
        device=how.device,
        allow_pickle=how.allow_pickle,
        trust_remote_code=how.trust_remote_code,
    )
    if contract.dimensions is not None and contract.dimensions > width(backbone):
        raise ModelError(f"dimensions is {contract.dimensions}; expected at most {width(backbone)}")
    if places.adapter is not None and places.adapter != places.weights:
        adapters.load_adapter(backbone, places.adapter)  # pyright: ignore[reportArgumentType]
    return Loaded(backbone, tokenizer, contract, places.saved, weights, base_weights)


def pick_how(dtype: str | torch.dtype, device: str | torch.device, **options: Any) -> How:
    """`How` with "auto" resolved. Raises ModelError for a type or device that is not to be had."""
    where = _pick_device(device)
    return How(pick_dtype(dtype, where), where, **options)


def _pick_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device is {device!r}; expected auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device is 'cuda' and this torch sees no CUDA device; use device='cpu'")
    return chosen


def resolve(name: str, revision: str | None = None, *, allow_pickle: bool = False) -> Path:
    """The folder of a model: a local one as it is, a bundled one where it lies, a hub name's after downloading.

    A GGUF file, and a model in a package of its own, are converted into a folder first.

    Only what is needed is downloaded, and only for a name that looks like no path here. Raises ModelError for what is
    none of these.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).suffix.lower() == ".gguf":
        return gguf_folder(Path(name))
    own = bundled_folder(name) or packaged_folder(name)
    if own is not None:
        return own
    if _looks_local(name):
        raise ModelError(f"{name} is not a folder; expected a model folder or a hub name such as org/model")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*_HUB_FILES, "*.bin"] if allow_pickle else _HUB_FILES
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["unknown"])[0]
        raise ModelError(f"{name} is no local folder and cannot be fetched from the hub: {reason}") from error


def _looks_local(name: str) -> bool:
    """Whether a name is a path of this machine: it is spelled as one, is a file, or its first folder is here."""
    first, slash, _ = name.partition("/")
    spelled = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    return spelled or Path(name).exists() or bool(slash and Path(first).is_dir())


def _places(folder: Path, how: How) -> _Places:
    """Which kind of folder it is."""
    saved = artefact.read_saved(folder)
    if saved is not None and saved.base is not None:
        base = resolve(saved.base.name, None, allow_pickle=how.allow_pickle)
        return _Places(folder, base, folder, saved, None)
    alone = not (folder / "config.json").is_file() and not (folder / "modules.json").is_file()
    if saved is None and alone and adapters.is_adapter_folder(folder):
        base = _places(resolve(adapters.base_of(folder), None, allow_pickle=how.allow_pickle), how)
        return _Places(folder, base.weights, folder, base.saved, base.sentence_transformers)
    parts = None if saved else artefact.read_sentence_transformers(folder)
    weights = parts.weights if parts else folder
    return _Places(folder, weights, weights if adapters.is_adapter_folder(weights) else None, saved, parts)


def _tokenizer_folder(places: _Places) -> Path:
    """The model's own folder where it holds a tokenizer, else that of the weights."""
    has_own = any((places.folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    return places.folder if has_own else places.weights


def _contract(places: _Places, known_as: str, tokenizer: Any, config: Any) -> Contract:
    if places.saved is not None:
        return places.saved.contract
    if known_as in RECIPES:
        return contract_of(known_as, tokenizer)
    if places.sentence_transformers is not None:
        causal = natural_attention(config) == "causal"
        return places.sentence_transformers.contract(tokenizer, config, causal=causal)
    return artefact.plain_contract(tokenizer, config)


def _digests(places: _Places, *, verify: bool) -> tuple[str, str]:
    """Digests of the weights with and without the adapter. Raises ContractError for files other than the saved ones."""
    base = digest_weights(weight_files(places.weights))
    files = dict(base.files) if places.weights == places.folder else {}
    files |= {name: digest_file(path) for name in _DECIDING if (path := places.folder / name).is_file()}
    weights = base.weights
    if places.adapter is not None:
        found = adapters.adapter_files(places.adapter)
        own = digest_weights([path for path in found if path.suffix == ".safetensors"])
        files |= own.files if places.adapter == places.folder else {}
        settings = [digest_file(path) for path in found if path.suffix == ".json"]
        weights = artefact.joined(base.weights, own.weights, *settings)
    saved = places.saved
    if saved is not None and verify and (places.folder / artefact.CONTRACT_FILE).is_file():
        artefact.check_files(places.folder, saved, files)
        if saved.base is not None and saved.base.weights != base.weights:
            raise ContractError(
                f"{places.folder}: its base {saved.base.name} is not the one it was trained on; give that one its place"
            )
    return weights, base.weights


def saved_parts(folder: Path, base_weights: str | None) -> tuple[dict[str, str], str]:
    """Digests of the files that decide vectors in a folder just written, and of its weights with `base_weights`."""
    files = {name: digest_file(folder / name) for name in _DECIDING if (folder / name).is_file()}
    adapter = adapters.adapter_files(folder)
    if base_weights is None:
        found = digest_weights(weight_files(folder))
        return files | found.files, found.weights
    found = digest_weights([path for path in adapter if path.suffix == ".safetensors"])
    settings = [digest_file(path) for path in adapter if path.suffix == ".json"]
    return files | found.files, artefact.joined(base_weights, found.weights, *settings)


def _change(contract: Contract, changes: Mapping[str, Any]) -> Contract:
    """`contract` with single entries replaced; ModelError for an entry or value that does not exist."""
    known = ContractChanges.__annotations__
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise ModelError(f"Embedder.load has no option {unknown[0]!r}; it can change {', '.join(known)}")
    entries = {name: value for name, value in changes.items() if name != "known_as"}
    try:
        return Contract.model_validate({**contract.model_dump(), **entries})
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise ModelError(f"{lines[1] if len(lines) > 1 else ''}: {lines[-2] if len(lines) > 2 else error}") from error


def _check_fits(contract: Contract, config: Any) -> None:
    """Raise ModelError where the contract asks for positions or tokens the model does not have."""
    limit = position_limit(config)
    if limit is not None and contract.max_length > limit:
        raise ModelError(f"max_length is {contract.max_length}; expected at most {limit}, the model's positions")
    highest = max(contract.marker_ids, default=0)
    if highest >= vocab_size(config):
        raise ModelError(f"marker {highest} is beyond the model's {vocab_size(config)} tokens; check the recipe")
