"""How fast training is beside sentence-transformers' MultipleNegativesRankingLoss: pairs per second.

    python bench/train.py                                   # generated pairs of natural lengths
    python bench/train.py --pairs pairs.parquet --layers 4 --width 512

Both sides train all weights of the same BLOOM (random weights, its tokenizer trained on the pairs) from the
same folder, on the same pairs in the same batches and order: in-batch negatives, cosine times 20 (temperature
0.05), AdamW with the same settings, gradients clipped to norm 1, texts cut at 512 tokens. Tokenising counts,
loading does not. sentence-transformers' side is a bare loop rather than its trainer, whose logging and
callbacks would only slow it down. bfloat16 is autocast over float32 weights, and is timed where the processor
multiplies bfloat16.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path

import common
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from udever.config import TrainingSettings
from udever.data.pairs import Pair, read_pairs
from udever.embedder import Embedder
from udever.model.adapters import apply_tuning
from udever.train.batches import make_batch
from udever.train.loop import make_optimizer, train_step

TEMPERATURE = 0.05
LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.0
MAX_GRADIENT_NORM = 1.0
HEAD_WIDTH = 64
VOCAB_SIZE = 16_384
ANCHOR_TOKENS, POSITIVE_TOKENS = 16, 64
"""Mean lengths of generated pairs: a question or a first sentence, and a passage or a function."""

FLOAT32, BFLOAT16 = "float32", "bfloat16"


def ours(folder: Path, pairs: Sequence[Pair], batch_size: int, steps: int, precision: str) -> float:
    """Seconds of `steps` steps of this project's training loop; see `theirs` for what has to be the same."""
    embedder = Embedder.load(folder, dtype="float32", max_length=common.MAX_TOKENS)
    settings = TrainingSettings(
        tuning="full",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=MAX_GRADIENT_NORM,
        temperature=TEMPERATURE,
        warmup=0.0,
        batch_size=batch_size,
        precision=precision,  # pyright: ignore[reportArgumentType]
    )
    apply_tuning(embedder.backbone, "full")  # pyright: ignore[reportArgumentType]
    optimizer = make_optimizer(embedder.backbone, settings)  # pyright: ignore[reportArgumentType]
    start = time.perf_counter()
    for batch in batches(pairs, batch_size, steps):
        train_step(embedder, make_batch(batch), optimizer, LEARNING_RATE, settings)
    return time.perf_counter() - start


def theirs(folder: Path, pairs: Sequence[Pair], batch_size: int, steps: int, precision: str) -> float:
    """Seconds of `steps` steps of sentence-transformers: tokenise, forward, loss, backward, clip, step."""
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    model.train()
    loss_of = MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    start = time.perf_counter()
    for batch in batches(pairs, batch_size, steps):
        columns = [[pair.anchor for pair in batch], [pair.positive for pair in batch]]
        with autocast(precision):
            loss = loss_of([model.preprocess(column) for column in columns], torch.arange(len(batch)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def batches(pairs: Sequence[Pair], batch_size: int, steps: int) -> list[list[Pair]]:
    """The first `steps` batches, in order, begun again where the pairs end; every batch is full."""
    order = (pairs[i % len(pairs)] for i in range(batch_size * steps))
    return [list(islice(order, batch_size)) for _ in range(steps)]


def autocast(precision: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16, or nothing."""
    return torch.autocast("cpu", torch.bfloat16) if precision == BFLOAT16 else nullcontext()


def make_pairs(num_pairs: int) -> list[Pair]:
    """Pairs of random words, lengths lognormal around ANCHOR_TOKENS and POSITIVE_TOKENS; all texts differ."""
    maker = common.TextMaker()
    anchors = maker.texts(num_pairs, mean=ANCHOR_TOKENS)
    positives = maker.texts(num_pairs, mean=POSITIVE_TOKENS)
    return [Pair(anchor=anchor, positive=positive) for anchor, positive in zip(anchors, positives, strict=True)]


def make_folder(pairs: Sequence[Pair], layers: int, width: int, folder: Path) -> Path:
    """A BLOOM with random weights whose tokenizer is trained on `pairs`; return `folder`."""
    tokenizer = common.train_tokenizer([text for pair in pairs for text in (pair.anchor, pair.positive)], VOCAB_SIZE)
    model = common.bloom(layers, width=width, heads=width // HEAD_WIDTH, vocab_size=VOCAB_SIZE)
    return common.save_model(model, tokenizer, folder)


def measure(folder: Path, pairs: Sequence[Pair], options: argparse.Namespace, precision: str) -> common.Row:
    """One row: ours and theirs in turn."""
    batch_size, steps = options.batch_size, options.steps
    contenders: dict[str, common.Contender] = {
        "ours": lambda: ours(folder, pairs, batch_size, steps, precision),
        "peer": lambda: theirs(folder, pairs, batch_size, steps, precision),
    }
    name, unit = f"train {precision} / sentence-transformers {precision}", "pairs/s"
    try:
        seconds = common.interleave(contenders, options.rounds)
    except NotImplementedError as error:
        alone = common.interleave({"peer": contenders["peer"]}, options.rounds)["peer"]
        rate = batch_size * steps / statistics.median(alone)
        return common.Row(name, None, rate, None, unit, note=str(error))
    return common.compare(name, seconds["ours"], seconds["peer"], work=batch_size * steps, unit=unit)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    common.add_options(parser, layers=2)
    parser.add_argument("--width", type=int, default=384, help=f"hidden size, a multiple of {HEAD_WIDTH}")
    parser.add_argument("--batch-size", type=int, default=64, help="pairs in a batch")
    parser.add_argument("--steps", type=int, default=20, help="steps in a round")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="Parquet or JSONL of pairs; default: generated")
    options = parser.parse_args()
    if options.width % HEAD_WIDTH or options.width < HEAD_WIDTH:
        parser.error(f"--width is {options.width}; expected a multiple of {HEAD_WIDTH}")
    return options


def main() -> int:
    """Build, time, report."""
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    wanted = options.batch_size * options.steps
    pairs = read_pairs(options.pairs, "train")[:wanted] if options.pairs else make_pairs(wanted)
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_folder(pairs, options.layers, options.width, Path(temporary) / "bloom")
        precisions = [FLOAT32, BFLOAT16] if common.multiplies_bfloat16() else [FLOAT32]
        rows = [measure(folder, pairs, options, precision) for precision in precisions]
    model = f"{options.layers} layers of {options.width}"
    title = f"train, {options.threads} threads, {model}, batch {options.batch_size}"
    common.report(title, rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
