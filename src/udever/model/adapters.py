"""What training moves: every weight, the biases (BitFit), or low-rank updates (LoRA)."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from udever.errors import ModelError

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
) -> int:
    """Make `model` trainable as `tuning` says, in place; return how many parameters will move.

    Every other parameter is frozen. Raises ModelError for "bitfit" on a model without biases.
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
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


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


def save_adapter(model: nn.Module, folder: Path, base: str) -> None:
    """Write what training moved, alone: LoRA in peft's format, BitFit as `bitfit.safetensors`."""
    from safetensors.torch import save_file

    inner = _inner(model)
    if has_lora(model):
        from peft import get_peft_model_state_dict

        config = inner.peft_config["default"]  # pyright: ignore[reportIndexIssue, reportArgumentType]
        config.base_model_name_or_path, config.inference_mode = base, True
        state = get_peft_model_state_dict(inner)  # pyright: ignore[reportArgumentType]
        config.save_pretrained(str(folder))
        save_file(
            {f"base_model.model.{name}": tensor.contiguous() for name, tensor in state.items()},
            folder / "adapter_model.safetensors",
        )
        return
    if any(p.requires_grad and not name.endswith("bias") for name, p in inner.named_parameters()):
        raise ModelError("more than biases and LoRA was trained, which is no adapter; save with merged=True")
    biases = {name: p.detach().contiguous() for name, p in inner.named_parameters() if name.endswith("bias")}
    save_file(biases, folder / "bitfit.safetensors")


def is_adapter_folder(folder: Path) -> bool:
    """Whether the folder holds an adapter in place of weights."""
    return (folder / "adapter_model.safetensors").is_file() or (folder / "bitfit.safetensors").is_file()


@torch.no_grad()
def load_adapter(model: nn.Module, folder: Path) -> None:
    """Fold the adapter in `folder` into `model`. Raises ModelError where it does not fit."""
    from safetensors.torch import load_file

    inner = _inner(model)
    if (folder / "bitfit.safetensors").is_file():
        _fit(inner, load_file(folder / "bitfit.safetensors"), folder)
        return
    from peft import PeftConfig, inject_adapter_in_model, set_peft_model_state_dict

    config = PeftConfig.from_pretrained(str(folder))
    inject_adapter_in_model(config, inner)
    state = load_file(folder / "adapter_model.safetensors")
    state = {name.removeprefix("base_model.model."): tensor for name, tensor in state.items()}
    outcome = set_peft_model_state_dict(inner, state)
    missing = [name for name in outcome.missing_keys if "lora_" in name]
    if missing or outcome.unexpected_keys:
        raise ModelError(f"{folder}: the adapter does not fit its base: {(missing or outcome.unexpected_keys)[0]!r}")
    merge_lora(inner)


def _fit(inner: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    parameters = dict(inner.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise ModelError(f"{folder}: bias {name!r} does not fit the base model")
        parameters[name].copy_(tensor)
