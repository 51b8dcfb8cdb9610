"""The OpenVINO side of `encode.py`: runs in an environment of its own and answers over its standard streams.

    python openvino_peer.py FOLDER TEXTS VECTORS --precision f32|bf16|int8 --threads 2 --batch-size 32

Reads the texts (a JSON list), exports the model in FOLDER, writes the vectors to VECTORS (.npy) and prints
one JSON line: {"repaired": what was}, or {"error": why}. After that every line read makes it encode all texts
once and print {"seconds": s}. It ends where its input ends. What the libraries print goes to standard error.

The repair: optimum-intel 2.2 looks for BLOOM's layers under `model.transformer`, which only the model with a
language-model head has, so that the export of an embedder dies with an AttributeError. Giving the bare model
that name for itself is enough; it is done only after the export failed in that way.
"""

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO


def main() -> int:
    """Load, then serve; 1 where the model cannot be loaded."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--precision", choices=["f32", "bf16", "int8"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print must not mix with the answers
    texts = json.loads(options.texts.read_text())
    importlib.import_module("optimum.intel.openvino")  # an environment without it is a mistake, no result
    try:
        model, repaired = load_or_repair(options.folder, options.precision, options.threads)
        vectors = model.encode(texts, batch_size=options.batch_size, show_progress_bar=False)
    except Exception as error:  # any failure to export is the answer, whatever its kind
        answer(answers, error=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        return 1
    import numpy as np

    np.save(options.vectors, vectors)
    answer(answers, repaired=repaired)
    for _ in sys.stdin:
        start = time.perf_counter()
        model.encode(texts, batch_size=options.batch_size, show_progress_bar=False)
        answer(answers, seconds=time.perf_counter() - start)
    return 0


def load_or_repair(folder: Path, precision: str, threads: int) -> tuple[Any, str]:
    """The model, and what had to be repaired in the peer to export it (see above), or nothing."""
    try:
        return load(folder, precision, threads), ""
    except AttributeError as error:
        if "'BloomModel' object has no attribute 'transformer'" not in str(error):
            raise
    from transformers import BloomModel

    bare_model: Any = BloomModel
    bare_model.transformer = property(lambda model: model)
    return load(folder, precision, threads), "BloomModel.transformer = property(lambda model: model)"


def load(folder: Path, precision: str, threads: int) -> Any:
    """The model through sentence-transformers' OpenVINO backend; "int8": weights in eight bits, the rest is its own."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    if precision != "int8":
        settings["INFERENCE_PRECISION_HINT"] = precision
    how = {"ov_config": settings, "export": True, "load_in_8bit": precision == "int8"}
    return SentenceTransformer(str(folder), backend="openvino", device="cpu", model_kwargs=how)


def answer(stream: TextIO, **content: Any) -> None:
    """Write one line of JSON and send it off."""
    stream.write(json.dumps(content) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
