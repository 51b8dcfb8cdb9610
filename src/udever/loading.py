"""From a name to what an embedder is made of: backbone, tokenizer, contract, and the digests that name its space.

A name is a folder (one that this project saved, one of sentence-transformers, a plain model, an adapter alone), a model
that comes with this package, or one of the hub. Every file is read and digested once.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from udever import hub
from udever.errors import ContractError, DataError, ModelError
from udever.model import adapters, artefact
from udever.model.backbone import (
    Backbone,
    load_backbone,
    natural_attention,
    pick_dtype,
    vocab_size,
    width,
)
from udever.model.configuration import is_quantised, read_config, stored_dtype
from udever.model.contract import Contract
from udever.model.gguf import GGUFSource, gguf_folder, read_source
from udever.model.lengths import position_limit
from udever.model.markers import with_suffix
from udever.model.published import RECIPES, contract_of
from udever.model.tokenizer_files import load_hf_tokenizer, load_plain_tokenizer
from udever.model.weights import digest_file, digest_weights, weight_files
from udever.nearest import near_path, nearest, path_suggestion, suggestion
from udever.packaged import BUNDLED, PACKAGED, packaged_folder
from udever.settings import explain
from udever.storage import unchanged

_DECIDING = ("config.json", "tokenizer.json", "tokenizer_config.json", "adapter_config.json")


@dataclass(frozen=True)
class How:
    """How a model is to be loaded: `eight_bits` is None where a folder's own weights decide.

    A model that is to be put into eight bits is loaded in float32 first.
    """

    dtype: torch.dtype
    device: torch.device
    eight_bits: bool | None
    revision: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    verify: bool = True


@dataclass(frozen=True)
class Loaded:
    """What `Embedder` is made of.

    `tokenizer` is transformers', or a `PlainTokenizer` that stands for it. `weights` is the digest of the weights and
    of every adapter folded into them, where they come from files; `saved` is what `udever.json` of the model's own
    folder says, where there is one; `source` the GGUF file that the weights come from, if any; `trained_on` the
    evaluation tasks that the model says it was trained on.
    """

    backbone: Backbone
    tokenizer: Any
    contract: Contract
    saved: artefact.Saved | None = None
    weights: str | None = None
    source: GGUFSource | None = None
    trained_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Model:
    """What a folder holds: weights of its own in the folder `weights`, or an adapter over `base`.

    An adapter may lie beside weights too. `name` is what led here.
    """

    name: str
    folder: Path
    weights: Path | None = None
    base: "_Model | None" = None
    saved: artefact.Saved | None = None
    sentence_transformers: artefact.SentenceTransformersFolder | None = None

    @property
    def backbone(self) -> Path:
        """The folder of the weights at the bottom."""
        return self.base.backbone if self.base is not None else self.weights or self.folder

    @property
    def adapter(self) -> Path | None:
        """The folder of the adapter that belongs to these weights or this base."""
        place = self.folder if self.base is not None else self.weights or self.folder
        return place if artefact.adapter_files(place) else None


def load(name: str, how: How, changes: Mapping[str, Any], known_as: str | None = None) -> Loaded:
    """Load a model by name under its contract with `changes`; `known_as` is the published model it is a copy of.

    Raises ModelError where it cannot be used, ContractError where its files are not those that were saved.
    """
    if known_as is not None and known_as not in RECIPES:
        raise ModelError(f"known_as is {known_as!r}, which is no published model; {suggestion(known_as, RECIPES)}")
    model = _find(name, how, how.revision)
    config = read_config(model.backbone, trust_remote_code=how.trust_remote_code)
    stored = is_quantised(config)
    if stored:
        how = _as_stored(model, how)
    tokenizer = _tokenizer(model, trust_remote_code=how.trust_remote_code)
    contract = _asked(_contract(model, known_as, tokenizer, config), changes, tokenizer)
    check_fits(contract, config)
    is_same = unchanged(weight_files(model.backbone))
    weights = _digest(model, verify=how.verify)
    backbone = load_backbone(
        model.backbone,
        config,
        attention=contract.attention,
        dtype=how.dtype,
        device=how.device,
        allow_pickle=how.allow_pickle,
        trust_remote_code=how.trust_remote_code,
    )
    if not is_same():
        raise ContractError(f"{model.backbone} was changed while it was loaded; load it again")
    if contract.dimensions is not None and contract.dimensions > width(backbone):
        raise ModelError(f"dimensions is {contract.dimensions}; expected at most {width(backbone)}")
    _apply_adapters(backbone, model)
    source = read_source(model.backbone)
    return Loaded(backbone, tokenizer, contract, model.saved, weights, source, _trained_on(model))


def _as_stored(model: _Model, how: How) -> How:
    """How a folder in eight bits is loaded. Raises ModelError for another precision, device or an adapter over it."""
    if how.eight_bits is False or how.device.type != "cpu":
        asked = how.device.type if how.eight_bits is not False else str(how.dtype).removeprefix("torch.")
        raise ModelError(
            f"{model.backbone} holds int8 weights and {asked} is asked for; give the model it was quantized from"
        )
    if model.adapter is not None or model.base is not None:
        raise ModelError(f"{model.folder} is an adapter over int8 weights; give the model those were quantized from")
    return replace(how, dtype=pick_dtype("auto", how.device), eight_bits=True)


def _apply_adapters(backbone: Any, model: _Model) -> None:
    """Fold in the adapters from the bottom up; one beside whole weights is said."""
    if model.base is not None:
        _apply_adapters(backbone, model.base)
    if model.adapter is not None:
        adapters.load_adapter(backbone, model.adapter)
        if model.base is None:
            told = f"{model.adapter} holds an adapter beside its weights; it was applied"
            warnings.warn(told, AdapterWarning, stacklevel=2)


class AdapterWarning(UserWarning):
    """A folder of whole weights holds an adapter too, which was applied to them."""


def pick_how(dtype: str | torch.dtype, device: str | torch.device) -> How:
    """`How` with "auto" resolved. Raises ModelError for a type or device that is not to be had."""
    where = _pick_device(device)
    if dtype not in ("int8", torch.int8):
        return How(pick_dtype(dtype, where, ("int8",)), where, None if dtype == "auto" else False)
    if where.type != "cpu":
        raise ModelError(f"dtype is 'int8' on {where.type}; int8 is for processors: use bfloat16, or device='cpu'")
    return How(torch.float32, where, True)


def _pick_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        hint = suggestion(str(device), ("auto", "cpu", "cuda", "cuda:0"))
        raise ModelError(f"device is {device!r}; {hint}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device is 'cuda' and this torch sees no CUDA device; use device='cpu'")
    return chosen


def resolve(
    name: str, revision: str | None = None, *, allow_pickle: bool = False, trust_remote_code: bool = False
) -> Path:
    """The folder of a model: a local one as it is, a bundled one where it lies, a hub name's after downloading.

    A GGUF file, and a model in a package of its own, are converted into a folder first.

    Only what is needed is downloaded, and only for a name that looks like no path here. Raises ModelError for what is
    none of these.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).suffix.lower() == ".gguf":
        return gguf_folder(Path(name))
    own = packaged_folder(name)
    if own is not None:
        return own
    if _looks_local(name):
        otherwise = "expected a model folder or a hub name such as org/model"
        raise ModelError(f"{name} is not a folder; {path_suggestion(name, otherwise)}")
    try:
        return hub.fetch(name, revision, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    except ModelError as error:
        near = nearest(name, [*BUNDLED, *PACKAGED, *RECIPES]) or near_path(name)
        hint = f"did you mean {near!r}?" if near else f"models that need no hub: {', '.join((*BUNDLED, *PACKAGED))}"
        raise ModelError(f"{error}; {hint}") from error


def stored_precision(name: str) -> torch.dtype | None:
    """The precision that a model's weights are stored in, those at the bottom of an adapter; None where none is said.

    Raises as `load` where there is no such model.
    """
    return stored_dtype(_find(name, pick_how("auto", "cpu")).backbone)


def is_embedder(name: str) -> bool:
    """Whether a model itself says how it embeds: in its folder, that of its base, or by its name.

    Raises as `load` where there is no such model.
    """
    return _says_how(_find(name, pick_how("auto", "cpu")))


def _says_how(model: _Model) -> bool:
    if model.saved is not None or model.sentence_transformers is not None or model.name in RECIPES:
        return True
    source = read_source(model.backbone)
    if source is not None and (source.contract or source.pooling):
        return True
    return model.base is not None and _says_how(model.base)


def _looks_local(name: str) -> bool:
    """Whether a name is a path of this machine: it is spelled as one, is a file, or its first folder is here."""
    first, slash, _ = name.partition("/")
    spelled = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    return spelled or Path(name).exists() or bool(slash and Path(first).is_dir())


def _find(name: str, how: How, revision: str | None = None, above: tuple[Path, ...] = ()) -> _Model:
    """What the folder of that name holds. `above` are the adapters that led here; none is its own base."""
    folder = resolve(name, revision, allow_pickle=how.allow_pickle, trust_remote_code=how.trust_remote_code)
    if folder.resolve() in above:
        raise ModelError(f"{folder} is an adapter that names itself as its base; name the model it was trained from")
    above = (*above, folder.resolve())
    saved = artefact.read_saved(folder)
    if saved is not None:
        base = _find(saved.base.name, how, above=above) if saved.base is not None else None
        return _Model(name, folder, base=base, saved=saved)
    if not any((folder / file).is_file() for file in ("config.json", "modules.json")) and artefact.adapter_files(
        folder
    ):
        return _Model(name, folder, base=_find(adapters.base_of(folder), how, above=above))
    parts = artefact.read_sentence_transformers(folder)
    return _Model(name, folder, weights=parts.weights if parts else None, sentence_transformers=parts)


def _tokenizer_folder(model: _Model) -> Path:
    """The model's own folder where it holds a tokenizer, else that of its weights or its base."""
    has_own = any((model.folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    if has_own:
        return model.folder
    return _tokenizer_folder(model.base) if model.base is not None else model.weights or model.folder


def _tokenizer(model: _Model, *, trust_remote_code: bool) -> Any:
    """What a saved contract goes with may do without transformers; other contracts are read off its tokenizer."""
    folder = _tokenizer_folder(model)
    plain = load_plain_tokenizer(folder) if model.saved is not None else None
    return plain or load_hf_tokenizer(folder, trust_remote_code=trust_remote_code)


def _contract(model: _Model, known_as: str | None, tokenizer: Any, config: Any) -> Contract:
    """The contract that the model brings, that of the published one it is, or what its files suggest, in this order.

    Raises ModelError for `known_as` beside a contract of its own.
    """
    own = _own_contract(model)
    if own is not None and known_as is not None:
        raise ModelError(f"{model.name} brings its own contract; leave out known_as ({known_as!r})")
    if own is not None:
        return own
    if (known_as or model.name) in RECIPES:
        return contract_of(known_as or model.name, tokenizer)
    if model.base is not None:
        return _contract(model.base, None, tokenizer, config)
    if model.sentence_transformers is not None:
        causal = natural_attention(config) == "causal"
        return model.sentence_transformers.contract(tokenizer, config, causal=causal)
    plain = artefact.plain_contract(tokenizer, config)
    source = read_source(model.backbone)
    return change(plain, {"pooling": source.pooling}) if source is not None and source.pooling else plain


def _own_contract(model: _Model) -> Contract | None:
    """The contract in the model's `udever.json`, in that of a base, or in the GGUF file at the bottom."""
    if model.saved is not None:
        return model.saved.contract
    if model.base is not None:
        return _own_contract(model.base)
    source = read_source(model.backbone)
    if source is None or not source.contract:
        return None
    try:
        return Contract.model_validate_json(source.contract)
    except ValidationError as error:
        raise ModelError(f"{source.file} holds a broken contract; export it again") from error


def _trained_on(model: _Model) -> frozenset[str]:
    """The tasks that the model and its bases were trained on, by their own account."""
    below = _trained_on(model.base) if model.base is not None else frozenset[str]()
    try:
        return below | artefact.trained_on(model.folder)
    except DataError:  # the word may mean something else on a card of others, whose model is to load all the same
        return below


def _digest(model: _Model, *, verify: bool) -> str:
    """Digest of the weights with their adapters. Raises ContractError for files other than the saved ones."""
    files, own = _own_digests(model.folder)
    if model.base is None:
        found = digest_weights(weight_files(model.backbone))
        weights, files = found.weights, files | found.files
    else:
        weights = _digest(model.base, verify=verify)
        if verify and model.saved is not None and model.saved.base is not None and model.saved.base.weights != weights:
            raise ContractError(
                f"{model.folder}: its base {model.base.name} is not the one it was trained on; put the original back"
            )
    if model.saved is not None and verify:
        artefact.check_files(model.folder, model.saved, files)
    beside = _own_digests(model.weights)[1] if model.weights is not None else own
    return artefact.joined(weights, *beside) if beside else weights


def _own_digests(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Digests of the files in `folder` that decide vectors besides whole weights; those that name its adapter."""
    files = {name: digest_file(folder / name) for name in _DECIDING if (folder / name).is_file()}
    found = artefact.adapter_files(folder)
    if not found:
        return files, []
    own = digest_weights([path for path in found if path.suffix == ".safetensors"])
    settings = [digest_file(path) for path in found if path.suffix == ".json"]
    return files | own.files, [own.weights, *settings]


def saved_parts(folder: Path, base_weights: str | None) -> tuple[dict[str, str], str]:
    """Digests of the files that decide vectors in a folder just written, and of its weights with `base_weights`."""
    files, own = _own_digests(folder)
    if base_weights is not None:
        return files, artefact.joined(base_weights, *own)
    found = digest_weights(weight_files(folder))
    return files | found.files, found.weights


def change(contract: Contract, changes: Mapping[str, Any]) -> Contract:
    """`contract` with single entries replaced; ModelError for a value that does not exist."""
    try:
        return Contract.model_validate({**contract.model_dump(), **changes})
    except ValidationError as error:
        raise ModelError(explain(error, Contract)) from error


def _asked(contract: Contract, changes: Mapping[str, Any], tokenizer: Any) -> Contract:
    """`contract` with what the caller asked for; `suffix` are words that the tokenizer makes ids of."""
    entries = {name: value for name, value in changes.items() if name != "suffix"}
    if "suffix" in changes:
        contract = with_suffix(contract, changes["suffix"], tokenizer)
    return change(contract, entries)


def check_fits(contract: Contract, config: Any) -> None:
    """Raise ModelError where the contract asks for positions or tokens the model does not have."""
    limit = position_limit(config)
    if limit is not None and contract.max_length > limit:
        raise ModelError(f"max_length is {contract.max_length}; expected at most {limit}, the model's positions")
    highest = max(contract.marker_ids, default=0)
    if highest >= vocab_size(config):
        raise ModelError(
            f"marker {highest} is beyond the model's {vocab_size(config)} tokens; check the contract and the tokenizer"
        )
