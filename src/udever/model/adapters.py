"""What training moves: every weight, the biases (BitFit), or low-rank updates (LoRA)."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from udever.errors import ModelError, first_line
from udever.model.artefact import BITFIT_FILE, adapter_files

Tuning = Literal["full", "bitfit", "lora"]

_LORA_TARGETS = {
    "bloom": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "gpt_neox": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
}
_LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def apply_tuning(
    model: nn.Module,
    tuning: Tuning,
    *,
    lora_rank: int = 16,
    lora_alpha: float = 32.0,
    lora_dropout: float = 0.0,
    freeze_table: bool = False,
) -> int:
    """Make `model` trainable as `tuning` says, in place; return how many parameters will move.

    Every other parameter is frozen, with `freeze_table` the embedding table too.
    Raises ModelError for "bitfit" on a model without biases.
    """
    model.requires_grad_(tuning == "full")
    if tuning == "bitfit":
        biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
        if not biases:
            raise ModelError(f"tuning is 'bitfit' and {family(model)} has no bias terms to move; use tuning = 'lora'")
        for bias in biases:
            bias.requires_grad_(True)
    elif tuning == "lora":
        _inject_lora(model, lora_rank, lora_alpha, lora_dropout)
    if freeze_table:
        for parameter in table_parameters(model):
            parameter.requires_grad_(False)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def table_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The weights of the model's embeddings: of tokens, and of positions where it has them."""
    return [p for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()]


def family(model: Any) -> str:
    """The `model_type` of the model's configuration."""
    return model.config.get_text_config().model_type


def lora_targets(model: nn.Module) -> list[str]:
    """Names of the projections LoRA goes to: all of a layer's, by family; else every linear layer there is."""
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if _is_projection(module)}
    chosen = [name for name in _LORA_TARGETS.get(family(model), _LLAMA_TARGETS) if name in names]
    return chosen or sorted(names)


def _is_projection(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _inject_lora(model: nn.Module, rank: int, alpha: float, dropout: float) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType] # peft scales by any number
        lora_dropout=dropout,
        target_modules=lora_targets(model),
        fan_in_fan_out=family(model) == "gpt2",
    )
    inject_adapter_in_model(config, _inner(model))


def _inner(model: nn.Module) -> Any:
    """The module whose parameter names are the checkpoint's own."""
    inner = getattr(model, "model", None)
    return inner if isinstance(inner, nn.Module) else model


def has_lora(model: nn.Module) -> bool:
    """Whether LoRA layers sit in the model."""
    return any("lora_" in name for name, _ in model.named_parameters())


def merge_lora(model: nn.Module) -> None:
    """Fold LoRA updates into the weights and put the plain layers back, in place. Nothing to do without LoRA."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    for module in model.modules():
        vars(module).pop("peft_config", None)  # else peft takes the next adapter for one of two


def save_adapter(model: nn.Module, folder: Path, base: str) -> None:
    """Write what training moved, alone: LoRA in peft's format, BitFit as `bitfit.safetensors`."""
    from safetensors.torch import save_file

    inner = _inner(model)
    if has_lora(model):
        from peft import get_peft_model_state_dict

        config = inner.peft_config["default"]  # pyright: ignore[reportIndexIssue, reportArgumentType]
        config.base_model_name_or_path, config.inference_mode = base, True
        # "auto" would look the base up on the hub to see whether its vocabulary grew
        state = get_peft_model_state_dict(inner, save_embedding_layers=False)  # pyright: ignore[reportArgumentType]
        config.save_pretrained(str(folder))
        save_file(
            {f"base_model.model.{name}": tensor.contiguous() for name, tensor in state.items()},
            folder / "adapter_model.safetensors",
        )
        return
    if any(p.requires_grad and not name.endswith("bias") for name, p in inner.named_parameters()):
        raise ModelError("more than biases and LoRA was trained, which is no adapter; save with merged=True")
    biases = {name: p.detach().contiguous() for name, p in inner.named_parameters() if name.endswith("bias")}
    save_file(biases, folder / BITFIT_FILE)


_REBASED = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin a LoRA that change the base's own weights, which an adapter file alone does not hold."""
_NAMED = ("target_modules", "exclude_modules", "layers_pattern")
_PATTERNS = ("alpha_pattern", "rank_pattern")
"""Settings of peft that name modules: as a list or one pattern; by patterns, each with a number."""
_ANY_LIST = "[^.]*"


def base_of(folder: Path) -> str:
    """The base that a peft adapter names. Raises ModelError where it names none."""
    base = read_peft_config(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{folder}/adapter_config.json names no base_model_name_or_path; add it")
    return base


def read_peft_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`. Raises ModelError for what is no LoRA over named modules, or cannot be applied exactly."""
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise ModelError(f"{path} describes an adapter of type {kind!r}; expected LORA")
    targets = config.get("target_modules")
    if not (isinstance(targets, list) and all(isinstance(name, str) for name in targets)):
        raise ModelError(f"{path} has target_modules {targets!r}; expected a list of names, not a pattern")
    for key in _PATTERNS:
        if not isinstance(config.get(key) or {}, dict):
            raise ModelError(f"{path} has {key} {config[key]!r}; expected an object of names and numbers")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_REBASED):
        raise ModelError(f"{path} began by {start}, which changes the base; convert the adapter to plain LoRA")
    return config


@torch.no_grad()
def load_adapter(model: nn.Module, folder: Path) -> None:
    """Fold the adapter in `folder` into `model`. Raises ModelError where it does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    inner = _inner(model)
    path = adapter_files(folder)[-1]
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {first_line(error)}") from error
    if path.name == BITFIT_FILE:
        _fit(inner, state, folder)
        return
    state = {_own_name(name, inner): tensor for name, tensor in state.items()}
    lora = {name: tensor for name, tensor in state.items() if "lora_" in name}
    settings = _own_settings(read_peft_config(folder), inner)
    _check_patterns(settings, {name.partition(".lora_")[0] for name in lora}, folder)
    _put_in(inner, settings, lora, folder)
    # the plain tensors of an adapted layer are those the updates belong to: they come first
    _fit(inner, {name: tensor for name, tensor in state.items() if name not in lora}, folder)
    merge_lora(inner)


def _put_in(inner: nn.Module, settings: Mapping[str, Any], lora: Mapping[str, Tensor], folder: Path) -> None:
    """Put LoRA layers with the tensors `lora` into the model. Raises ModelError where they do not fit."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    known = {field for field in LoraConfig.__dataclass_fields__ if field not in ("peft_type", "task_type")}
    try:
        config = LoraConfig(**{key: value for key, value in settings.items() if key in known})
        config.init_lora_weights = True  # what is put in is overwritten by the file
        inject_adapter_in_model(config, inner)
    except (ValueError, TypeError, RuntimeError, re.error) as error:
        raise ModelError(
            f"{folder}: the settings in adapter_config.json do not fit the base: {first_line(error)}"
        ) from error
    try:
        outcome = set_peft_model_state_dict(inner, dict(lora))
    except RuntimeError as error:  # a tensor of another shape
        raise ModelError(f"{folder}: the adapter does not fit its base or its own adapter_config.json") from error
    missing = [name for name in outcome.missing_keys if "lora_" in name]
    if missing or outcome.unexpected_keys:
        raise ModelError(f"{folder}: the adapter does not fit its base: {(missing or outcome.unexpected_keys)[0]!r}")


def _own_settings(config: Mapping[str, Any], inner: nn.Module) -> dict[str, Any]:
    """An adapter's settings with the names of modules that the backbone has, as `_own_name` gives the tensors theirs.

    What is saved whole beside LoRA (`modules_to_save`) is left out: its tensors are only copied.
    """
    own = {key: value for key, value in config.items() if key != "modules_to_save"}
    for key in _NAMED:
        names = own.get(key)
        if isinstance(names, str):
            own[key] = _inward(names, inner)
        elif names:
            own[key] = [_inward(name, inner) for name in names]
    for key in _PATTERNS:
        renamed: dict[str, Any] = {}
        for pattern, value in (own.get(key) or {}).items():
            renamed.setdefault(_inward(pattern, inner), value)  # of two that match, peft takes the first
        own[key] = renamed
    if own.get("layers_to_transform") is not None and not own.get("layers_pattern"):
        own["layers_pattern"] = [_ANY_LIST]  # peft's default takes the list's name for one below another
    return own


def _check_patterns(settings: Mapping[str, Any], modules: Iterable[str], folder: Path) -> None:
    """Raise ModelError for a rank or scale of its own that no adapted module would get, since peft only ignores it."""
    for key in _PATTERNS:
        for pattern in settings[key]:
            try:
                matches = any(re.match(rf"(.*\.)?({pattern})$", module) for module in modules)  # as peft does
            except re.error as error:
                raise ModelError(f"{folder}: {key} has {pattern!r}, which is no pattern: {error}") from error
            if not matches:
                raise ModelError(f"{folder}: {key} names {pattern!r}, which is no module of the adapter; correct it")


def _own_name(name: str, inner: nn.Module) -> str:
    """A tensor's name in the backbone, of which peft has moved some one level further in."""
    name = name.removeprefix("base_model.model.").replace(".modules_to_save", "")
    return _inward(name if "lora_" in name else name.replace(".base_layer", ""), inner)


def _inward(name: str, inner: nn.Module) -> str:
    """A name, or a pattern of names, as the backbone has it: adapters are often trained with a head on, further out."""
    found = re.match(r"(\^?)(\w+)\\?\.(?=(\w+))", name)
    if found and not hasattr(inner, found[2]) and hasattr(inner, found[3]):
        return found[1] + name[found.end() :]
    return name


def _fit(inner: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    parameters = {name.replace(".base_layer", ""): parameter for name, parameter in inner.named_parameters()}
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise ModelError(f"{folder}: the adapter's {name!r} does not fit the base model")
        parameters[name].copy_(tensor)
