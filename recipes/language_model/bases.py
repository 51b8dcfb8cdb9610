"""Bases that are made out of another: with random weights of the same shape, or with its first layers alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def random_weights(base: str, folder: Path) -> None:
    """The base with every matrix replaced by normal noise of its own deviation; norms and tokenizer stay."""
    config, tensors = _read(base, folder)
    rng = torch.Generator().manual_seed(0)
    _write(folder, config, {name: _noise(tensor, rng) for name, tensor in tensors.items()})


def first_layers(base: str, folder: Path, number: int) -> None:
    """The base without the layers after its first `number` ones; its last norm stays."""
    config, tensors = _read(base, folder)
    if not 0 < number <= config["num_hidden_layers"]:
        raise SystemExit(f"{number} layers of {base}; expected 1 to {config['num_hidden_layers']}")
    config["num_hidden_layers"] = number
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][:number]
    _write(folder, config, {name: tensor for name, tensor in tensors.items() if _layer(name) < number})


def _layer(name: str) -> int:
    """The number in `layers.3.mlp.weight`, -1 for what is in no layer."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), -1)


def _noise(tensor: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    if tensor.dim() < 2:
        return tensor
    return (torch.randn(tensor.shape, generator=rng) * tensor.float().std()).to(tensor.dtype)


def _read(base: str, folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The base's config and tensors; its tokenizer is copied to `folder`."""
    from udever import Embedder

    source = folder.with_name(folder.name + "-source")
    shutil.rmtree(source, ignore_errors=True)
    Embedder.load(base).save(source)
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (source / name).is_file():
            shutil.copy(source / name, folder)
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(source.glob("*.safetensors")):
        tensors |= load_file(path)
    config = json.loads((source / "config.json").read_text())
    shutil.rmtree(source)
    return config, tensors


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2))
