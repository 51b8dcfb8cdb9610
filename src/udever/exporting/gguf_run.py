"""What llama.cpp makes of an exported file, compared with the embedder that it was written from."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from udever.embedder import Embedder
from udever.errors import needs
from udever.exporting.gguf_file import GGUFContent
from udever.model.artefact import REFERENCE_TEXTS


def is_installed() -> bool:
    """Whether llama-cpp-python is there to compare with."""
    return find_spec("llama_cpp") is not None


def load(path: Path, max_length: int) -> Any:
    """The file in llama.cpp, on the threads that torch has; markers that stand in a text are taken for markers."""
    import torch

    with needs("llama-cpp-python", "llama-cpp", "comparing with llama.cpp"):
        from llama_cpp import Llama  # pyright: ignore[reportMissingImports]
    model = Llama(
        str(path),
        embedding=True,
        n_ctx=max_length,
        n_batch=max_length,
        n_ubatch=max_length,
        n_threads=torch.get_num_threads(),
        n_threads_batch=torch.get_num_threads(),
        verbose=False,
    )
    model.tokenize = partial(model.tokenize, special=True)  # opening markers may stand in a prompt
    return model


def vectors(path: Path, texts: list[str], max_length: int) -> np.ndarray:
    """Unit vectors that llama.cpp gives of texts with their prompts: [texts, hidden]."""
    model = load(path, max_length)
    try:
        return np.array(model.embed(texts, normalize=True), dtype=np.float32)
    finally:
        model.close()


def compare(path: Path, embedder: Embedder, planned: GGUFContent) -> float:
    """The least cosine between llama.cpp's and the embedder's vectors of the reference texts, over the file's roles."""
    asked = [prompt + text for prompt in planned.prompts.values() for text in REFERENCE_TEXTS]
    theirs = vectors(path, asked, embedder.max_length)
    ours = [
        embedder.encode(
            REFERENCE_TEXTS, prompt_name=role, normalize_embeddings=True, truncate_dim=theirs.shape[1], allow_empty=True
        )
        for role in planned.prompts
    ]
    return float((np.concatenate(ours) * theirs).sum(1).min())
