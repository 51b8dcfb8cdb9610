"""How well a decoder knows a language before any finetuning: the bits that it takes for a byte of text."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from udever.errors import ModelError, first_line
from udever.loading import resolve
from udever.model.backbone import natural_attention, pick_dtype
from udever.model.configuration import read_config
from udever.model.tokenizer_files import load_hf_tokenizer
from udever.progress import progress_bar
from udever.storage import atomic_file
from udever.terminal import silent_transformers

_BATCH_TEXTS = 8
_MAX_TOKENS = 512


def bits_per_byte(
    base: str, texts: Mapping[str, Sequence[str]], *, show_progress: bool = False
) -> dict[str, tuple[float, float]]:
    """For each language of `texts` the bits that `base` takes for a byte of UTF-8, and for a text, on average.

    Of parallel texts the second compares languages whose scripts take different numbers of bytes. Texts follow the
    token that begins one (or ends one, where the tokenizer has no such); of long ones the first 512 tokens count.
    Raises ModelError for what is no decoder with a head over its vocabulary.
    """
    folder = resolve(base)
    model, tokenizer = _load(base, folder), load_hf_tokenizer(folder)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if first is None:
        raise ModelError(f"{base}: the tokenizer names no token that begins or ends a text; expected bos_token")
    found = {}
    with progress_bar("reading", sum(map(len, texts.values())), enabled=show_progress) as advance:
        for language, rows in texts.items():
            bits = num_bytes = 0.0
            for start in range(0, len(rows), _BATCH_TEXTS):
                batch = list(_encoded(tokenizer, rows[start : start + _BATCH_TEXTS]))
                bits += _bits(model, [[first, *ids] for ids, _ in batch])
                num_bytes += sum(size for _, size in batch)
                advance(len(batch))
            found[language] = (bits / num_bytes, bits / len(rows))
    return found


def write_bits(path: Path, found: Mapping[str, tuple[float, float]]) -> None:
    """Write a table that `udever report --shares` reads."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["language", "bits_per_byte", "bits_per_text"])
        rows.writerows([language, f"{a_byte:.4f}", f"{a_text:.2f}"] for language, (a_byte, a_text) in found.items())


def _load(base: str, folder: Path) -> Any:
    """transformers' model with its head."""
    from transformers import AutoModelForCausalLM

    if natural_attention(read_config(folder)) != "causal":
        raise ModelError(f"{base} is no decoder; give one that was trained to continue text")
    dtype = pick_dtype("auto", torch.device("cpu"))
    try:
        with silent_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, local_files_only=True
            )
    except Exception as error:  # transformers raises a dozen kinds for what it cannot use
        raise ModelError(f"{base} cannot be loaded with a head: {first_line(error)}") from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{base} lacks {missing[0]!r}, without which it predicts nothing; give the decoder as published"
        )
    return model.eval()


def _encoded(tokenizer: Any, rows: Sequence[str]) -> Iterator[tuple[list[int], int]]:
    """The first tokens of each text, and how many bytes they stand for."""
    for text in rows:
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        ids = encoding.ids[:_MAX_TOKENS]
        end = len(text) if len(ids) == len(encoding.ids) else encoding.offsets[len(ids) - 1][1]
        yield ids, len(text[:end].encode())


@torch.inference_mode()
def _bits(model: Any, sequences: Sequence[Sequence[int]]) -> float:
    """The bits of all tokens but each sequence's first; what stands right of one is not seen by it."""
    length = max(map(len, sequences))
    ids = torch.tensor([[*sequence, *[0] * (length - len(sequence))] for sequence in sequences])
    there = torch.tensor([[1] * len(sequence) + [0] * (length - len(sequence)) for sequence in sequences])
    logits = model(input_ids=ids, attention_mask=there, use_cache=False).logits[:, :-1].float()
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").double()
    return float((losses * there[:, 1:].flatten()).sum()) / math.log(2)
