"""An embedder as an ONNX graph, and as the same graph in OpenVINO's form: token ids in, unit vectors out."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from udever.embedder import Embedder
from udever.errors import MissingExtra, ModelError
from udever.exporting.graph import Graph
from udever.model.artefact import REFERENCE_TEXTS, write_json
from udever.model.contract import RoleName
from udever.model.decoders import PaddedModel
from udever.model.folder import save_tokenizer, shared_markers

OPSET = 18
"""The version of ONNX's operations that the graph is written in."""
INPUTS = ("input_ids", "attention_mask")
OUTPUT = "sentence_embedding"
ONNX_FILE = "model.onnx"
OPENVINO_FILE = "openvino_model.xml"

_ROLES: tuple[RoleName, ...] = ("query", "document", "symmetric")
_LARGEST_FILE = 1_900_000_000
"""Bytes of weights that fit beside the graph in one file; more go into a file of their own."""

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Token ids and mask, int64 [texts, tokens], to vectors [texts, dimensions]."""


def check(embedder: Embedder) -> None:
    """Raise ModelError for what the graph cannot say, MissingExtra without the packages that write and run it."""
    missing = [package for package in ("onnx", "onnxscript", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise MissingExtra(f"writing ONNX needs {', '.join(missing)}; run pip install 'udever[onnx]'")
    contract = embedder.contract
    if isinstance(embedder.backbone, PaddedModel):
        kind = embedder.backbone.config.model_type
        raise ModelError(
            f"{embedder.name} is a {kind!r} model, which runs padded by its own code and cannot be exported; "
            f"use it as a model folder"
        )
    prompted = any(contract.role(role).prompt for role in _ROLES)
    if contract.pooling != "last" and not contract.pool_prompt and prompted:
        raise ModelError(
            f"{embedder.name} leaves prompts out of its mean, which an exported graph cannot do; "
            f"use it as a model folder"
        )


def write_onnx(path: Path, embedder: Embedder) -> None:
    """Write the graph; axes are as long as what is put in."""
    example = torch.ones(2, 8, dtype=torch.int64)  # ids that every model has
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    with torch.no_grad(), _quietly():
        program = torch.onnx.export(
            Graph(embedder).eval(),
            (example, example.clone()),  # one tensor given twice would be taken for one input
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes=dict.fromkeys(INPUTS, axes),
        )
        assert program is not None
        size_bytes = sum(weight.nbytes for weight in embedder.backbone.state_dict().values())  # pyright: ignore[reportAttributeAccessIssue]
        program.save(path, external_data=size_bytes > _LARGEST_FILE)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch's exporter says of packages that it would know too and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def write_beside(folder: Path, embedder: Embedder) -> None:
    """Write the tokenizer, with the markers around a text where all roles share them, and the contract."""
    contract, tokenizer = embedder.contract, embedder.tokenizer.hf
    save_tokenizer(tokenizer, contract, shared_markers(contract, tokenizer), folder)
    write_json(folder / "contract.json", {"fingerprint": embedder.fingerprint, **contract.model_dump(mode="json")})


def onnx_runtime(path: Path) -> Run:
    """The graph in ONNX Runtime, on the threads that torch has."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or its threads slow what runs beside
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda *inputs: np.asarray(session.run([OUTPUT], dict(zip(INPUTS, inputs, strict=True)))[0])


def write_openvino(path: Path, graph: Path) -> None:
    """Write an ONNX graph in OpenVINO's form, weights in float32."""
    import openvino  # pyright: ignore[reportMissingImports]

    openvino.save_model(openvino.Core().read_model(graph), path, compress_to_fp16=False)


def openvino_runtime(path: Path) -> Run:
    """The graph in OpenVINO on the processor, in float32."""
    import openvino  # pyright: ignore[reportMissingImports]

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model: Any = openvino.Core().compile_model(path, "CPU", settings)
    return lambda *inputs: model(dict(zip(INPUTS, inputs, strict=True)))[OUTPUT]


def compare(run: Run, embedder: Embedder) -> float:
    """The least cosine of the graph's vectors to the embedder's: the reference texts by role, together and alone."""
    cosines = []
    for role in _ROLES:
        tokens = embedder.tokenize(REFERENCE_TEXTS, role).ids
        ours = embedder.encode(REFERENCE_TEXTS, prompt_name=role, normalize_embeddings=True)
        theirs = np.concatenate([run(*filled(tokens)), *(run(*filled([ids])) for ids in tokens)])
        lengths = np.linalg.norm(theirs, axis=1)
        cosines.append((np.concatenate([ours, ours]) * theirs).sum(1) / lengths)
    return float(np.min(cosines))  # NaN where one is


def filled(tokens: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Texts in the rows of a rectangle, filled up behind, and where they are."""
    ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(tokens):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask
