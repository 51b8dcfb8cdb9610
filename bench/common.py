"""What the benchmarks share: models and texts built in code, interleaved timing, one table of results."""

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BloomConfig,
    BloomModel,
    Gemma3TextConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.utils import logging as transformers_logging

from udever import Embedder

transformers_logging.disable_progress_bar()  # models are loaded many times
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(line_buffering=True)  # a benchmark whose output goes to a file is watched there
Contender = Callable[[], float]
"""Does its work once and returns how many seconds that took."""

MAX_TOKENS = 512
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<pad>"]
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"


@dataclass(frozen=True)
class Row:
    """One comparison. `ours` and `peer` are rates in `unit`; `ratio` is how many times as fast ours is.

    `goal` is the least the ratio should be. `note` says what the numbers do not, or why there are none.
    """

    name: str
    ours: float | None
    peer: float | None
    ratio: float | None
    unit: str
    goal: float | None = None
    note: str = ""
    at_most: bool = False
    """Whether the goal is the most the ratio should be."""


def timed(work: Callable[[], Any]) -> Contender:
    """`work` as a contender."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def interleave(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender in every round: one warm-up each, then A, B, C, A, B, C, ...

    What else the machine does then falls on all alike, and times of one round can be paired.
    """
    for contender in contenders.values():
        contender()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(contender())
    return seconds


def compare(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    work: float,
    unit: str,
    goal: float | None = None,
    note: str = "",
) -> Row:
    """A row from paired seconds for the same `work`: median rates, and the median of the paired ratios."""
    ratio = statistics.median(b / a for a, b in zip(ours, peer, strict=True))
    return Row(name, work / statistics.median(ours), work / statistics.median(peer), ratio, unit, goal, note)


def report(title: str, rows: Sequence[Row], json_path: Path | None) -> None:
    """Print one table of `rows`; write them to `json_path` where it is given."""
    table = Table(title=title)
    for heading in ("comparison", "ours", "peer", "unit", "ratio", "goal"):
        table.add_column(heading, justify="left" if heading in ("comparison", "unit") else "right")
    for row in rows:
        numbers = ["" if rate is None else _number(rate) for rate in (row.ours, row.peer)]
        ratio = row.note if row.ratio is None else f"{row.ratio:.2f}"
        goal = "" if row.goal is None else f"{'<=' if row.at_most else '>='} {row.goal:g}"
        table.add_row(row.name, *numbers, row.unit, ratio, goal)
    Console(width=None if Console().is_terminal else 150).print(table)
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def add_options(parser: argparse.ArgumentParser, *, layers: int) -> None:
    """The options every benchmark has."""
    parser.add_argument("--layers", type=int, default=layers, help="layers of a model (default %(default)s)")
    parser.add_argument("--gemma3", type=Path, metavar="FOLDER", help="Gemma 3's weights in place of random ones")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after the warm-up")
    parser.add_argument("--threads", type=int, default=2, help="threads of either side")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions that multiply bfloat16."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))


def make_words(num_words: int, rng: np.random.Generator) -> list[str]:
    """Pronounceable words of one to four syllables, no two the same."""
    words: dict[str, None] = {}
    while len(words) < num_words:
        syllables = range(int(rng.integers(1, 5)))
        word = "".join(str(rng.choice(list(_CONSONANTS))) + str(rng.choice(list(_VOWELS))) for _ in syllables)
        words[word + str(rng.choice(["", "", "n", "s", "r"]))] = None
    return list(words)


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `vocab_size` entries, closing token `</s>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


class TextMaker:
    """Texts of random words, the frequent ones far more often than the rest, as in natural text."""

    def __init__(self, *, vocab_size: int = 8192, num_words: int = 6000, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.words = make_words(num_words, self.rng)
        weights = 1 / np.arange(2, num_words + 2)
        self.weights = weights / weights.sum()
        lines = [" ".join(self._draw(40)) for _ in range(2000)]
        self.tokenizer = train_tokenizer(lines, vocab_size)

    def _draw(self, num_words: int) -> list[str]:
        return [self.words[i] for i in self.rng.choice(len(self.words), num_words, p=self.weights)]

    def text(self, num_tokens: int) -> str:
        """A text of exactly `num_tokens` tokens, the closing one not counted."""
        backend = self.tokenizer.backend_tokenizer
        text = " ".join(self._draw(num_tokens))
        end = backend.encode(text, add_special_tokens=False).offsets[num_tokens - 1][1]
        while len(backend.encode(text[:end], add_special_tokens=False).ids) > num_tokens:
            end -= 1  # the cut word may split into more tokens than the whole one had
        return text[:end]

    def texts(self, num_texts: int, *, mean: float = 50, sigma: float = 0.8) -> list[str]:
        """Texts whose lengths are lognormal with this mean, in random order.

        The lengths, closing token included and at most MAX_TOKENS, are the distribution's quantiles, so
        that few texts have the mean that many have.
        """
        standard = statistics.NormalDist()
        places = [standard.inv_cdf((i + 0.5) / num_texts) for i in range(num_texts)]
        lengths = np.exp(np.log(mean) - sigma**2 / 2 + sigma * self.rng.permutation(places))
        return [self.text(int(length) - 1) for length in np.clip(lengths.round(), 2, MAX_TOKENS)]


def bloom(layers: int, *, width: int = 1024, heads: int = 16, vocab_size: int = 8192) -> BloomModel:
    """A BLOOM with random weights: the shape of bloom-560m, its vocabulary smaller."""
    config = BloomConfig(vocab_size=vocab_size, hidden_size=width, n_head=heads, n_layer=layers)
    config.update({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3})
    return BloomModel(config)


def qwen3(layers: int, *, vocab_size: int = 8192) -> Any:
    """A Qwen3 with random weights: the shape of Qwen3-0.6B, its vocabulary smaller."""
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    return AutoModel.from_config(config)


def gemma3(layers: int, *, vocab_size: int = 8192) -> Any:
    """A Gemma 3 with random weights: the shape of gemma-3-270m, its vocabulary smaller."""
    config = Gemma3TextConfig(
        vocab_size=vocab_size,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    return AutoModel.from_config(config)


def use_weights(weights: Path, folder: Path, layers: int) -> Path:
    """Write an embedder folder with the first `layers` of the model in `weights`; return it."""
    plain = folder.with_name(folder.name + "-plain")
    model = AutoModel.from_pretrained(weights, dtype=torch.float32, num_hidden_layers=layers)
    model.save_pretrained(plain)
    AutoTokenizer.from_pretrained(weights).save_pretrained(plain)
    Embedder.load(plain, dtype="float32", device="cpu").save(folder)
    return folder


def save_model(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, *, noise: float = 0.0) -> Path:
    """Write an embedder folder, plain closing token, that both sides load as the same model; return it.

    `noise` is the deviation of what is added to every weight, so that no bias stays zero and no norm one.
    """
    plain = folder.with_name(folder.name + "-plain")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=noise)
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    Embedder.load(plain, dtype="float32", device="cpu").save(folder)
    return folder
