"""An embedder for programs that run without torch: llama.cpp and ollama (GGUF), ONNX Runtime, OpenVINO.

Each file is compared with the embedder that it was written from, and refused where its vectors are others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from udever.embedder import Embedder
from udever.errors import ContractError, ModelError, needs
from udever.exporting import gguf_file, gguf_run, onnx_file
from udever.exporting.gguf_file import Precision
from udever.model.adapters import has_lora, merge_lora
from udever.model.contract import RoleName
from udever.model.eight_bits import is_eight_bit
from udever.storage import atomic_file, atomic_folder

__all__ = ["Exported", "export_gguf", "export_onnx", "export_openvino"]

_LEAST: Mapping[Precision, float] = {"f16": 0.999, "q8_0": 0.995}
"""Cosine of a GGUF file's vectors to the embedder's, by precision."""
_LEAST_OF_GRAPH = 0.999


@dataclass(frozen=True)
class Exported:
    """What callers of the file must know.

    `cosine` is the least of the reference texts, None where nothing was there to run the file with; `prompts` go in
    front of a role's texts.
    """

    cosine: float | None
    prompts: Mapping[RoleName, str]


def export_gguf(
    embedder: Embedder, path: str | Path, *, precision: Precision = "f16", role: RoleName | None = None
) -> Exported:
    """Write `embedder` as a GGUF file: BLOOM, Gemma 3, Llama, Mistral, Qwen2 and Qwen3, pooled by last token or mean.

    llama.cpp puts the contract's tokens around every text; `role` says whose, where queries and documents have others.
    An adapter is folded into the weights in memory. Where llama-cpp-python is installed the file is run: ContractError,
    and no file, where its vectors are too far from the embedder's. Raises ModelError in one line for what llama.cpp
    cannot run, MissingExtra without the package gguf.
    """
    _check_floating(embedder)
    _fold_adapter(embedder)
    planned = gguf_file.plan(embedder, role)
    cosine = None
    with atomic_file(path) as temporary:
        gguf_file.write(temporary, embedder, planned, precision)
        if gguf_run.is_installed():
            cosine = gguf_run.compare(temporary, embedder, planned)
            _check_cosine(f"{path} in llama.cpp", cosine, _LEAST[precision])
    return Exported(cosine, planned.prompts)


def export_onnx(embedder: Embedder, folder: str | Path) -> Exported:
    """Write `embedder` into a folder as `model.onnx`, beside it the tokenizer and the contract.

    Ids and mask, int64 [texts, tokens] of any size, to `sentence_embedding`, float32 [texts, dimensions]: the closing
    token or the mean is taken and scaled inside. Texts may be filled up on either side. An adapter is folded into the
    weights in memory. Raises ContractError, and writes nothing, where ONNX Runtime gives other vectors, ModelError for
    what the graph cannot say, MissingExtra without its packages.
    """
    _check_floating(embedder)
    onnx_file.check(embedder)
    _fold_adapter(embedder)
    with atomic_folder(folder, "exported") as temporary:
        graph = temporary / onnx_file.ONNX_FILE
        onnx_file.write_onnx(graph, embedder)
        cosine = onnx_file.compare(onnx_file.onnx_runtime(graph), embedder)
        _check_cosine(f"{folder} in ONNX Runtime", cosine, _LEAST_OF_GRAPH)
        onnx_file.write_beside(temporary, embedder)
    return Exported(cosine, _prompts(embedder))


def export_openvino(embedder: Embedder, folder: str | Path) -> Exported:
    """As `export_onnx`, the graph in OpenVINO's form: `openvino_model.xml` and `.bin`, compared in OpenVINO."""
    with needs("openvino", "openvino", "writing OpenVINO's form"):
        import openvino  # noqa: F401 # pyright: ignore[reportMissingImports] # asked for before long work
    _check_floating(embedder)
    onnx_file.check(embedder)
    _fold_adapter(embedder)
    with atomic_folder(folder, "exported") as temporary, TemporaryDirectory() as scratch:
        graph, target = Path(scratch) / onnx_file.ONNX_FILE, temporary / onnx_file.OPENVINO_FILE
        onnx_file.write_onnx(graph, embedder)
        onnx_file.write_openvino(target, graph)
        cosine = onnx_file.compare(onnx_file.openvino_runtime(target), embedder)
        _check_cosine(f"{folder} in OpenVINO", cosine, _LEAST_OF_GRAPH)
        onnx_file.write_beside(temporary, embedder)
    return Exported(cosine, _prompts(embedder))


def _prompts(embedder: Embedder) -> Mapping[RoleName, str]:
    names: tuple[RoleName, ...] = ("query", "document", "symmetric")
    return {name: embedder.contract.role(name).prompt for name in names}


def _fold_adapter(embedder: Embedder) -> None:
    """Add an adapter's part to the weights it stands beside."""
    model: Any = embedder.backbone
    if has_lora(model):
        merge_lora(model)


def _check_floating(embedder: Embedder) -> None:
    """Raise ModelError for a model in eight bits, whose whole numbers no other format takes over."""
    if is_eight_bit(embedder.backbone):  # pyright: ignore[reportArgumentType]
        raise ModelError(f"{embedder.name} holds int8 weights; give the model it was quantized from")


def _check_cosine(what: str, cosine: float, least: float) -> None:
    """Raise ContractError where vectors are too far from the embedder's."""
    if not cosine >= least:  # so that NaN fails too
        raise ContractError(
            f"{what} gives vectors with cosine {cosine:.4f} to the model's on the reference texts; expected at least "
            f"{least}: it is not written, use another format"
        )
