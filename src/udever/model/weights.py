"""The files that hold a model's weights: read, bounded, and digested."""

import copy
import json
import math
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from udever.errors import ModelError, first_line
from udever.model.bloom import Bloom
from udever.model.configuration import is_quantised
from udever.model.decoder_config import DecoderConfig
from udever.model.decoder_modules import Decoder, empty_decoder, filled_decoder
from udever.model.eight_bits import SCALE
from udever.model.packed_table import unpack_tables
from udever.terminal import silent_transformers

EIGHT_BIT_NAME = "int8.safetensors"
PACKED_TABLE_NAME = "packed.safetensors"
"""The weights of a folder in eight bits: a name of its own, since transformers would take them for whole numbers."""
WEIGHT_NAMES = ("model.safetensors", "model.safetensors.index.json")
_PICKLE_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_MAX_HEADER = 100_000_000
_FLOATS = {"F64", "F32", "F16", "BF16"}
_HEADS = ("lm_head.", "pooler.", "cls.", "score.", "classifier.")
_PREFIXES = ("base_model.model.", "transformer.", "model.", "bert.", "roberta.")


@dataclass(frozen=True)
class TensorEntry:
    """What a safetensors file says of one tensor."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def check_weights(folder: Path, config: Any, *, allow_pickle: bool = False) -> None:
    """Raise ModelError where there are no usable weights, or fewer of them than the configuration speaks of."""
    _require_weights(folder, allow_pickle=allow_pickle)
    entries: dict[str, TensorEntry] = {}
    for path in weight_files(folder):
        if path.suffix == ".bin":
            return
        entries.update(read_header(path)[0])
    for name, entry in entries.items():
        packed = name.removesuffix("weight") + SCALE in entries
        allowed = _FLOATS | {"I8"} if is_quantised(config) else _FLOATS | {"I8", "U8"} if packed else _FLOATS
        if name.endswith(".weight") and entry.dtype not in allowed:
            raise ModelError(f"{folder}: weight {name!r} is {entry.dtype}; expected floating point, not quantised")
    _check_size(folder, config, entries)


def _check_size(folder: Path, config: Any, entries: Mapping[str, TensorEntry]) -> None:
    """A configuration can ask for any amount of memory; the files show how much there is to fill it with."""
    text = config.get_text_config()
    layers = getattr(text, "num_hidden_layers", 0)
    rows = max((entry.shape[0] for entry in entries.values() if entry.shape), default=0)
    total = sum(entry.end - entry.start for entry in entries.values())
    asked = {"num_hidden_layers": (layers, len(entries)), "vocab_size": (getattr(text, "vocab_size", 0), rows)}
    asked["hidden_size"] = (getattr(text, "hidden_size", 0), total)
    asked["intermediate_size"] = (getattr(text, "intermediate_size", None) or 0, total)
    for name, (number, limit) in asked.items():
        if isinstance(number, int) and number > limit:
            raise ModelError(f"{folder}/config.json has {name} {number:,}, more than its weights hold; fetch it again")


def _require_weights(folder: Path, *, allow_pickle: bool) -> None:
    if any((folder / name).is_file() for name in (*WEIGHT_NAMES, EIGHT_BIT_NAME, PACKED_TABLE_NAME)):
        return
    pickled = next((name for name in _PICKLE_NAMES if (folder / name).is_file()), None)
    if pickled is None:
        raise ModelError(f"{folder} has no weights; expected {' or '.join(WEIGHT_NAMES)}")
    if not allow_pickle:
        raise ModelError(
            f"{folder} has its weights in {pickled} alone, a pickle that can run code; convert it to safetensors, "
            f"or pass allow_pickle=True if you trust where it comes from"
        )


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, in the index's order. Raises ModelError for a broken index."""
    names = (*WEIGHT_NAMES, EIGHT_BIT_NAME, PACKED_TABLE_NAME, *_PICKLE_NAMES)
    present = next((folder / name for name in names if (folder / name).is_file()), None)
    if present is None:
        raise ModelError(f"{folder} has no weights; expected {' or '.join(WEIGHT_NAMES)}")
    if present.suffix != ".json":
        return [present]
    try:
        names = list(dict.fromkeys(json.loads(present.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{present} is no index of weight files; fetch the model again") from error
    suffix = ".safetensors" if present.name.startswith("model") else ".bin"
    for name in names:
        if not isinstance(name, str) or not inside(name) or not name.endswith(suffix):
            raise ModelError(f"{present} names {name!r}; expected files {suffix} of its own folder")
        if not (folder / name).is_file():
            raise ModelError(f"{present} names {name}, which is missing; fetch the model again")
    return [folder / name for name in names]


def parameters_beside_tables(folder: Path) -> int:
    """How many numbers a folder's safetensors hold outside embedding tables and heads; 0 where there are none.

    Raises ModelError for broken files.
    """
    if not any((folder / name).is_file() for name in WEIGHT_NAMES):
        return 0
    entries = [entry for path in weight_files(folder) for entry in read_header(path)[0].items()]
    tables = (*_HEADS, "embed_tokens", "word_embeddings.", "embed_in.", "wte.", "embeddings.")
    return sum(math.prod(entry.shape) for name, entry in entries if not any(table in name for table in tables))


def inside(name: str) -> bool:
    """Whether a relative path stays below the folder that it is taken from."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and not Path(name).is_absolute()


def read_header(path: Path) -> tuple[dict[str, TensorEntry], int]:
    """The tensors of a safetensors file and where their bytes begin. Raises ModelError for a broken one."""
    try:
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > _MAX_HEADER:
                raise ValueError("header too large")
            raw = json.loads(handle.read(length))
        raw.pop("__metadata__", None)
        entries = {
            name: TensorEntry(entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
            for name, entry in raw.items()
        }
        size = path.stat().st_size - 8 - length
        if any(not 0 <= entry.start <= entry.end <= size for entry in entries.values()):
            raise ValueError("incomplete")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{path} is no whole safetensors file ({first_line(error)}); fetch it again") from error
    return entries, 8 + length


@dataclass(frozen=True)
class Digests:
    """`files[name]` of every file as it lies there, and `weights` of the tensors whatever file they are in."""

    files: dict[str, str]
    weights: str


def digest_weights(paths: Iterable[Path]) -> Digests:
    """Digests of weight files. Tensors count by name without a head's or a wrapper's prefix, type, shape and bytes."""
    files: dict[str, str] = {}
    tensors: list[str] = []
    for path in paths:
        if path.suffix != ".safetensors":
            files[path.name] = digest_file(path)
            tensors.append(files[path.name])
            continue
        entries, begin = read_header(path)
        whole = blake3()
        with path.open("rb") as handle:
            whole.update(handle.read(begin))
            for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
                handle.seek(begin + entry.start)
                content = _digest_bytes(handle, entry.end - entry.start)
                whole.update(content.encode())
                tensors += _tensor_line(name, entry.dtype, entry.shape, content)
        files[path.name] = whole.hexdigest()
    return Digests(files, blake3("\n".join(sorted(tensors)).encode()).hexdigest())


def _tensor_line(name: str, dtype: str, shape: tuple[int, ...], content: str) -> list[str]:
    """One tensor of a digest of weights; none for a head, which decides no hidden state."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return [] if name.startswith(_HEADS) else [f"{name} {dtype} {shape} {content}"]


def digest_tensors(state: Mapping[str, Tensor]) -> str:
    """The digest of weights in memory: that of the file `safetensors` would write of them."""
    names = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int8: "I8"}
    lines = []
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        content = blake3(tensor.view(-1).view(torch.uint8).numpy().data).hexdigest()
        lines += _tensor_line(name, names.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape), content)
    return blake3("\n".join(sorted(lines)).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """BLAKE3 of a file's bytes."""
    with path.open("rb") as handle:
        return _digest_bytes(handle, path.stat().st_size)


def _digest_bytes(handle: Any, count: int) -> str:
    digest = blake3()  # one thread: the pool of its many threads does not survive a fork, and hangs
    while count > 0:
        block = handle.read(min(count, 16_000_000))
        if not block:
            break
        digest.update(block)
        count -= len(block)
    return digest.hexdigest()


def load_bloom(folder: Path, config: Any) -> Bloom:
    """Native BLOOM with the weights in `folder`, whatever head they were saved with."""
    if config.n_layer < 1 or config.n_head < 1 or config.hidden_size % config.n_head:
        raise ModelError(
            f"{folder}/config.json has n_layer {config.n_layer}, n_head {config.n_head} and hidden_size "
            f"{config.hidden_size}; expected at least one layer, and heads that divide the size"
        )
    state = unpack_tables(
        {name.removeprefix("transformer."): tensor for name, tensor in read_state(folder) if name != "lm_head.weight"}
    )
    with torch.device("meta"):
        model = Bloom(config)
    fitting = model.state_dict()
    wrong = [name for name in fitting if name not in state or state[name].shape != fitting[name].shape]
    if wrong:
        raise ModelError(f"{folder}: weight {wrong[0]!r} is missing or has another shape than config.json says")
    model.load_state_dict({name: state[name] for name in fitting}, assign=True)
    model.reset_slopes()  # buffers made under the meta device hold nothing
    return model


def load_decoder(folder: Path, config: DecoderConfig, dtype: torch.dtype) -> Decoder:
    """The modules of a decoder that this project saved, with the weights in `folder`."""
    return filled_decoder(
        folder, config, {name.removeprefix("model."): tensor for name, tensor in read_state(folder)}, dtype
    )


def read_state(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a folder's weight files by name. Raises ModelError where they cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        for path in weight_files(folder):
            pickled = path.suffix == ".bin"
            state = torch.load(path, weights_only=True, map_location="cpu") if pickled else load_file(path)
            yield from state.items()
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{folder}: the weights cannot be read: {first_line(error)}") from error


def empty_model(config: Any) -> Any:
    """A model of `config` whose weights hold nothing yet and take no memory: they are put in the place of."""
    if config.model_type == "bloom":
        with torch.device("meta"):
            return Bloom(config)
    if isinstance(config, DecoderConfig):
        return empty_decoder(config)
    from transformers import AutoModel
    from transformers.initialization import no_init_weights

    plain = copy.deepcopy(config)
    del plain.quantization_config  # transformers would look for a library that knows it
    try:
        with no_init_weights():
            model = AutoModel.from_config(plain, dtype=torch.bfloat16)
    except Exception as error:  # whatever a family's own code raises for a configuration it cannot use
        raise ModelError(f"a {config.model_type!r} model cannot be built: {first_line(error)}") from error
    model.config.quantization_config = config.quantization_config
    return model


def load_transformers(
    folder: Path, config: Any, dtype: torch.dtype, allow_pickle: bool, trust_remote_code: bool
) -> Any:
    """transformers' own model of `config` with the weights in `folder`; an adapter beside them is left out."""
    from transformers import AutoModel

    try:
        with _without_adapter(folder) as clean, silent_transformers():
            model, report = AutoModel.from_pretrained(
                clean,
                config=config,
                dtype=dtype,
                use_safetensors=None if allow_pickle else True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                local_files_only=True,
            )
    except Exception as error:  # transformers and safetensors raise a dozen kinds for a broken file
        raise ModelError(f"{folder} cannot be loaded: {first_line(error)}") from error
    missing = [name for name in report["missing_keys"] if "pooler" not in name]
    if missing:
        raise ModelError(f"{folder}: weight {sorted(missing)[0]!r} is missing from the weight files")
    return model


@contextmanager
def _without_adapter(folder: Path) -> Iterator[Path]:
    """`folder`, or a stand-in without the adapter that transformers would apply in silence."""
    if not (folder / "adapter_config.json").is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith("adapter_"):
                try:
                    (Path(scratch) / path.name).symlink_to(path.resolve())
                except OSError:  # no links on this system
                    shutil.copy(path, scratch)
        yield Path(scratch)
