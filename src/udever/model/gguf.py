"""A GGUF file as a base: read with transformers, dequantised, and kept as an ordinary model folder.

The folder lies in the cache under the SHA-256 of the file, so that a file is converted once. Nothing of the file may be
lost on the way: its tensors are counted against the weights of the model, its tokens compared with the tokenizer's, and
settings that the conversion does not carry over are refused.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from udever.errors import ModelError, OutputError, first_line
from udever.nearest import path_suggestion
from udever.storage import atomic_folder, cache_folder, unchanged
from udever.terminal import silent_transformers

SOURCE_FILE = "gguf.json"
"""In a converted folder: the file that it comes from, as `GGUFSource`."""

READABLE = ("gemma2", "gemma3", "llama", "qwen2", "qwen3")
"""Architectures, by GGUF's names, whose conversion is tested here."""

_MAGIC = b"GGUF"
_FORMAT = "1"
_SPLIT_BY_TOKENS = ("llama", "gemma4")  # SentencePiece: tokens and scores say all; no pattern splits the text before
_LAYERS_OF_27B = (46, 62)  # Gemma 2 and Gemma 3, whose scale is that of heads of 144 and 168
_ROPE_TENSOR = "rope_freqs.weight"
_HEAD = "output.weight"
_POOLINGS = ("", "mean", "cls", "last", "rank")  # by llama.cpp's numbers
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class GGUFSource:
    """Where a converted folder comes from."""

    file: str
    architecture: str
    name: str
    quantisation: str
    sha256: str
    licence: str
    pooling: str = ""
    """As llama.cpp calls it: "mean", "last"; empty where the file says nothing of embeddings."""
    contract: str = ""
    """That of an embedder that `udever export` wrote, as JSON; empty for any other file."""

    def __str__(self) -> str:
        """As cards and recipes name it."""
        return f"{self.file} ({self.quantisation}, SHA-256 {self.sha256})"


def read_source(folder: Path) -> GGUFSource | None:
    """The GGUF file that a folder of this module comes from; None for any other folder."""
    path = folder / SOURCE_FILE
    return GGUFSource(**json.loads(path.read_text())) if path.is_file() else None


def gguf_folder(path: Path) -> Path:
    """The model in a GGUF file as a folder in the cache, converted first where it is not there yet.

    Weights that are quantised in the file come out as bfloat16, others in the file's own precision. Raises ModelError
    in one line for what is no whole GGUF file of a decoder in `READABLE` or cannot be carried over exactly, OutputError
    where the disk has no room for the copy (told before the work starts).
    """
    _check_magic(path)
    is_same = unchanged([path])
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    target = converted_folder(digest)
    if not (target / SOURCE_FILE).is_file():
        _convert(path, digest, target, is_same)
    return target


def converted_folder(sha256: str) -> Path:
    """Where the copy of the file with that SHA-256 lies, or will."""
    return cache_folder() / "gguf" / f"{sha256[:32]}-{_FORMAT}"


def _check_magic(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"{path} does not exist; {path_suggestion(path, 'give the path of a GGUF file')}")
    with path.open("rb") as handle:
        head = handle.read(8)
    if head[:4] != _MAGIC:
        raise ModelError(f"{path} is no GGUF file; expected one of llama.cpp or ollama")
    version = int.from_bytes(head[4:8], "little")
    if version > 0xFFFF:
        raise ModelError(f"{path} is a GGUF file of the other byte order; convert it for little-endian processors")
    if version not in (2, 3):
        raise ModelError(f"{path} is a GGUF file of version {version}; expected version 2 or 3: convert it again")


def _convert(path: Path, digest: str, target: Path, is_same: Callable[[], bool]) -> None:
    """`is_same`: whether the file is still the one that the digest was taken of."""
    reader = _open(path)
    fields = dict(reader.fields.items())
    architecture = str(_value(fields, "general.architecture", ""))
    _check_metadata(path, fields, architecture, [tensor.name for tensor in reader.tensors])
    tokens = [str(token) for token in fields["tokenizer.ggml.tokens"].contents()]
    dtype = _dtype({tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1})
    elements = sum(int(tensor.n_elements) for tensor in reader.tensors if tensor.name != _HEAD)
    check_room(str(path), target, elements * _BYTES[dtype])
    model = _read_model(path, dtype)
    found = sum(parameter.numel() for parameter in model.parameters())
    if found != elements:
        raise ModelError(
            f"{path} holds {elements:,} weights and transformers' {architecture} takes {found:,} of them; "
            f"use the model's safetensors folder"
        )
    tokenizer = _read_tokenizer(path, tokens)
    source = GGUFSource(
        file=path.name,
        architecture=architecture,
        name=str(_value(fields, "general.name", "")),
        quantisation=_quantisation(fields),
        sha256=digest,
        licence=str(_value(fields, "general.license", "")),
        pooling=_pooling(fields, architecture),
        contract=str(_value(fields, "udever.contract", "")),
    )
    with atomic_folder(target, "model") as folder, silent_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / SOURCE_FILE).write_text(json.dumps(asdict(source), indent=2) + "\n")
        if not is_same():
            raise ModelError(f"{path} was changed while it was read; try again")


def _open(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ModelError("reading GGUF files needs the package gguf; pip install 'udever[gguf]'") from error
    try:
        return GGUFReader(path)
    except Exception as error:  # the reader raises whatever numpy and struct do on a file that is cut short
        raise ModelError(f"{path} is cut short or damaged ({first_line(error)}); fetch it again") from error


def _value(fields: dict[str, Any], key: str, default: Any = None) -> Any:
    return fields[key].contents() if key in fields else default


def _check_metadata(path: Path, fields: dict[str, Any], architecture: str, tensors: list[str]) -> None:
    """Raise ModelError for what is not a whole decoder, or has settings that the conversion would lose."""
    if architecture not in READABLE:
        raise ModelError(f"{path} holds the architecture {architecture!r}; expected a decoder: {', '.join(READABLE)}")
    parts = int(_value(fields, "split.count", 0) or 0)
    if parts > 1:
        raise ModelError(f"{path} is one part of {parts}; join them with llama-gguf-split --merge and give the result")
    if not tensors:
        raise ModelError(f"{path} holds a vocabulary without weights; give the file of the model")
    pooling = _pooling(fields, architecture)
    if pooling not in ("", "mean", "last"):
        raise ModelError(f"{path} pools by {pooling}; expected a decoder pooled by last or mean")
    if "tokenizer.ggml.tokens" not in fields:
        raise ModelError(f"{path} holds no tokenizer; give a file converted with its vocabulary")
    scaling = _value(fields, f"{architecture}.rope.scaling.type", "none")
    if _ROPE_TENSOR in tensors or scaling not in ("none", ""):
        what = _ROPE_TENSOR if _ROPE_TENSOR in tensors else f"rope scaling {scaling!r}"
        raise ModelError(f"{path} has {what}, which the conversion does not carry over; use the safetensors folder")
    _check_attention_scale(path, fields, architecture)
    _check_splitting(path, str(_value(fields, "tokenizer.ggml.model")), str(_value(fields, "tokenizer.ggml.pre", "")))


def _pooling(fields: dict[str, Any], architecture: str) -> str:
    number = int(_value(fields, f"{architecture}.pooling_type", 0))
    return _POOLINGS[number] if 0 <= number < len(_POOLINGS) else str(number)


def _check_attention_scale(path: Path, fields: dict[str, Any], architecture: str) -> None:
    """Gemma's scale of attention is in no field: transformers takes that of heads of 256, wrong for the 27B models."""
    if not architecture.startswith("gemma"):
        return
    head = int(_value(fields, f"{architecture}.attention.key_length", 0))
    layers = int(_value(fields, f"{architecture}.block_count", 0))
    if head != 256 or layers in _LAYERS_OF_27B:
        raise ModelError(f"{path} does not store the model's attention scale; use the safetensors folder")


def _check_splitting(path: Path, kind: str, pre: str) -> None:
    """A byte-level tokenizer's text is first cut by a pattern that the file only names: it must be a known name."""
    if kind in _SPLIT_BY_TOKENS:
        return
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError as error:
        raise ModelError("reading GGUF files needs a newer transformers; pip install -U 'udever[gguf]'") from error
    known = {"gpt-2", *GGUF_PRE_TOKENIZER_SPLITS}
    if kind != "gpt2" or pre not in known:
        raise ModelError(f"{path} has a tokenizer {kind} {pre!r} that cannot be rebuilt; use the safetensors folder")


def _dtype(kinds: set[str]) -> str:
    """What the weights come out as: bfloat16 for quantised ones, which it holds better than they were."""
    exact = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    if "F32" in kinds:
        return "float32" if kinds <= set(exact) else "bfloat16"
    return exact[next(iter(kinds))] if len(kinds) == 1 and kinds <= set(exact) else "bfloat16"


def check_room(name: str, target: Path, size_bytes: int) -> None:
    """Raise OutputError where the disk of the folder `target` has no room for a copy of so many bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    needed = size_bytes + 200_000_000  # the tokenizer's files, and a margin
    if free < needed:
        raise OutputError(
            f"{name} takes {needed / 1e9:.1f} GB dequantised and {target.parent} has {free / 1e9:.1f} GB free; "
            f"make room, or set UDEVER_CACHE to another folder"
        )


def _read_model(path: Path, dtype: str) -> Any:
    from transformers import AutoModel, GgufConfig

    try:
        with silent_transformers():
            model, report = AutoModel.from_pretrained(
                path.parent,
                gguf_file=path.name,
                dtype=dtype,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                local_files_only=True,
            )
    except Exception as error:  # transformers raises a dozen kinds for a file it cannot use
        raise ModelError(f"{path} cannot be read: {first_line(error)}") from error
    lost = sorted([*report["missing_keys"], *report["mismatched_keys"]])
    if lost:
        raise ModelError(f"{path} lacks {len(lost)} weights of the model, {lost[0]} first; use the safetensors folder")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # it is an ordinary model now
    return model


def _read_tokenizer(path: Path, tokens: list[str]) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except Exception as error:
        raise ModelError(f"{path}: its tokenizer cannot be rebuilt: {first_line(error)}") from error
    ours = tokenizer.convert_ids_to_tokens(list(range(len(tokens))))
    wrong = [i for i, (own, given) in enumerate(zip(ours, tokens, strict=True)) if _spaced(own) != _spaced(given)]
    if wrong:
        first = wrong[0]
        raise ModelError(
            f"{path}: token {first} is {tokens[first]!r} and comes out as {ours[first]!r} ({len(wrong)} such); "
            f"use the safetensors folder"
        )
    return tokenizer


def _spaced(token: str | None) -> str:
    """SentencePiece's mark of a space as a space: files have one in some tokens and the other in others."""
    return (token or "").replace("\u2581", " ")


def _quantisation(fields: dict[str, Any]) -> str:
    from gguf import LlamaFileType

    try:
        return LlamaFileType(int(_value(fields, "general.file_type", -1))).name.removeprefix("MOSTLY_")
    except ValueError:
        return "unnamed quantisation"
