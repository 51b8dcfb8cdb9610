"""Steps 1 and 2: what the backbone reads, in its natural shares, and the backbone as a language model of it.

    python pretrain.py corpus                                             # -> corpus.npz, shares.csv
    python pretrain.py main  --layers 2 --hidden 256 --heads 4
    python pretrain.py small --layers 1 --hidden 128 --heads 4
    python pretrain.py corpus --bilingual 0.25                            # -> bilingual.npz
    python pretrain.py bilingual --layers 2 --hidden 256 --heads 4        # a quarter of it texts with a translation
    python pretrain.py random --layers 2 --hidden 256 --heads 4 --steps 0   # the same weights, untrained: the control

The texts are all of corpora/, drawn by size: a language with a tenth of the bytes is a tenth of what is read. Code is
a tenth on top, as in BLOOM's own data, from the functions the seedling's recipe mined; files kept for scoring are left
out. Next token, cross-entropy over the tokens of the batch and some drawn evenly: over all 32,768 it would cost
more than the network. Both sizes read the same tokens in the same order; the learning rate falls to nothing.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from common import CLOSING, CODE, DATA, LANGUAGES, SEEDLING, WORK

from udever.model.attention import attention_over
from udever.model.bloom import Bloom, init_weights
from udever.model.packing import Packed
from udever.storage import atomic_file

CODE_SHARE = 0.1
DRAWN_MB = 30.0
CHUNK_CHARS = 2000
TRANSLATIONS = ("parallel_beginner_courses", "parallel_d365", "parallel_react_docs")
BLOCK, BLOCKS, SAMPLED, RATE, LOG_EVERY = 128, 24, 2048, 2e-3, 50


def is_kept_for_scoring(file: str) -> bool:
    """Whether the functions of this source file are scored and read by no model here: one file in ten."""
    from hashlib import blake2b

    return blake2b(file.encode(), digest_size=2).digest()[0] < 26


def sources() -> dict[str, list[str]]:
    """The texts by file of corpora/ and by programming language."""
    texts = {
        path.stem: pq.read_table(path, columns=["text"])["text"].to_pylist()
        for path in sorted((DATA / "corpora").glob("*.parquet"))
    }
    table = pq.read_table(SEEDLING / "mined" / "code.parquet", columns=["positive", "positive_language", "file"])
    files = [file for file in pc.unique(table["file"]).to_pylist() if not is_kept_for_scoring(file)]
    table = table.filter(pc.is_in(table["file"], pa.array(files)))
    for language in CODE:
        texts[language] = table.filter(pc.equal(table["positive_language"], language))["positive"].to_pylist()
    return texts


def shares_of(size: dict[str, int]) -> dict[str, float]:
    """What part of the whole each is: text by its bytes, code `CODE_SHARE` together, divided by its bytes."""
    code = sum(size[name] for name in size if name in CODE)
    text = sum(size.values()) - code
    return {
        name: CODE_SHARE * bytes_ / code if name in CODE else (1 - CODE_SHARE) * bytes_ / text
        for name, bytes_ in size.items()
    }


def translations() -> list[str]:
    """Short texts in English, each with its translation behind or before it."""
    rng, found = np.random.default_rng(0), []
    for name in TRANSLATIONS:
        table = pq.read_table(DATA / "pairs" / f"{name}.parquet", columns=["anchor", "positive", "anchor_language"])
        for row in table.filter(pc.equal(table["anchor_language"], "en")).to_pylist():
            sides = [row["anchor"][:300], row["positive"][:300]]
            found.append("\n".join(sides if rng.random() < 0.5 else sides[::-1]))
    return found


def make_corpus(
    texts: dict[str, list[str]], folder: Path, drawn_mb: float = DRAWN_MB, bilingual: tuple[float, list[str]] = (0, [])
) -> None:
    """Draw `drawn_mb` of the texts by their shares, shuffled, as tokens; write the shares of what is scored.

    `bilingual` is a part of the whole and the texts it is drawn from; the shares of the others shrink alike.
    """
    from tokenizers import Tokenizer

    size = {name: sum(len(text.encode()) for text in found) for name, found in texts.items()}
    share = shares_of(size)
    rng, drawn = np.random.default_rng(0), []
    parts = [(share[name] * (1 - bilingual[0]), found) for name, found in texts.items()]
    for part, found in (*parts, bilingual):
        room = part * drawn_mb * 1e6
        for number in rng.permutation(len(found)):
            if room <= 0:
                break
            text = found[number]
            start = int(rng.integers(max(1, len(text) - CHUNK_CHARS + 1)))
            drawn.append(text[start : start + CHUNK_CHARS])
            room -= len(drawn[-1].encode())
    rng.shuffle(drawn)
    tokenizer = Tokenizer.from_file(str(SEEDLING / "tokenizer" / "tokenizer.json"))
    ids = [
        token
        for start in range(0, len(drawn), 1000)
        for encoded in tokenizer.encode_batch(drawn[start : start + 1000])
        for token in (*encoded.ids, CLOSING)
    ]
    with atomic_file(folder / ("bilingual.npz" if bilingual[0] else "corpus.npz")) as path, path.open("wb") as file:
        np.savez(file, ids=np.array(ids, dtype=np.uint16))
    with atomic_file(folder / "shares.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("language", "bytes", "percent"))
        for language, codes in LANGUAGES.items():
            writer.writerow((language, sum(size.get(c, 0) for c in codes), 100 * sum(share.get(c, 0) for c in codes)))
        for language in CODE:
            writer.writerow((f"{language}-Code", size[language], 100 * share[language]))
    print(f"{sum(size.values()) / 1e6:.0f} MB in all, {len(ids):,} tokens drawn", flush=True)


def make(num_layers: int, hidden_size: int, num_heads: int, vocab_size: int) -> Bloom:
    """Random weights, attention passing content on (see udever.training.fresh)."""
    from transformers import BloomConfig

    from udever.training.fresh import let_content_through

    config = BloomConfig(
        vocab_size=vocab_size, hidden_size=hidden_size, n_layer=num_layers, n_head=num_heads,
        bos_token_id=None, eos_token_id=CLOSING, pad_token_id=0,
    )  # fmt: skip
    model = Bloom(config)
    init_weights(model, 0)
    let_content_through(model, 0)
    return model


def vocab_size() -> int:
    """Rows of the table: the tokenizer's entries, markers among them."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(SEEDLING / "tokenizer" / "tokenizer.json")).get_vocab_size()


def loss_of(model: Bloom, blocks: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Mean cross-entropy of the next token; blocks [number, length]."""
    tokens = torch.from_numpy(blocks.astype(np.int64))
    packed = Packed(tokens.flatten(), (blocks.shape[1],) * len(blocks))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(attention_over(packed, causal=True)).view(*blocks.shape, -1)[:, :-1].flatten(0, 1)
        wanted = tokens[:, 1:].flatten()
        others = torch.from_numpy(rng.integers(model.config.vocab_size, size=SAMPLED))
        candidates, place = torch.unique(torch.cat((wanted, others)), return_inverse=True)
        scores = hidden @ model.word_embeddings(candidates).T
    return F.cross_entropy(scores.float(), place[: len(wanted)])


def optimiser(model: Bloom) -> torch.optim.Optimizer:
    """AdamW; the table, each of whose rows is seldom in a batch, learns at twice the rate."""
    groups = [
        {"params": [model.word_embeddings.weight], "weight_decay": 0.0, "scale": 2.0},
        {"params": [p for n, p in model.named_parameters() if p.ndim == 2 and "embeddings" not in n], "scale": 1.0},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0, "scale": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)


def pretrain(model: Bloom, ids: np.ndarray, num_steps: int) -> list[dict[str, float]]:
    """Train `model` in place; returns a line every `LOG_EVERY` steps."""
    rng, adamw, lines = np.random.default_rng(0), optimiser(model), []
    starts = rng.permutation(len(ids) // BLOCK) * BLOCK
    began, sums = time.process_time(), 0.0
    model.train()
    for step in range(num_steps):
        chosen = starts[np.arange(step * BLOCKS, (step + 1) * BLOCKS) % len(starts)]
        loss = loss_of(model, ids[chosen[:, None] + np.arange(BLOCK)], rng)
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in adamw.param_groups:
            group["lr"] = RATE * group["scale"] * min(1.0, (step + 1) / 100) * (1 - (step / num_steps) ** 2)
        adamw.step()
        sums += loss.item()
        if (step + 1) % LOG_EVERY == 0:
            lines.append({"step": step + 1, "loss": round(sums / LOG_EVERY, 4), "tokens": (step + 1) * BLOCK * BLOCKS,
                          "cpu_s": round(time.process_time() - began, 1)})  # fmt: skip
            print(lines[-1], flush=True)
            sums = 0.0
    model.eval()
    return lines


def write_backbone(model: Bloom, folder: Path) -> None:
    """A model folder that `base =` of a recipe can name."""
    from transformers import PreTrainedTokenizerFast

    from udever.model.export import save_weights

    folder.mkdir(parents=True, exist_ok=True)
    path = str(SEEDLING / "tokenizer" / "tokenizer.json")
    PreTrainedTokenizerFast(tokenizer_file=path, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    save_weights(model, folder)


def main() -> None:
    """Make the corpus, or a backbone from it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", help="corpus, or what the backbone is called")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--bilingual", type=float, default=0.0, help="part of the corpus that is translations")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    if options.name == "corpus":
        part = options.bilingual
        make_corpus(sources(), WORK, bilingual=(part, translations() if part else []))
        return
    ids = np.load(WORK / ("bilingual.npz" if options.name == "bilingual" else "corpus.npz"))["ids"]
    model = make(options.layers, options.hidden, options.heads, vocab_size())
    lines = pretrain(model, ids, options.steps)
    write_backbone(model, WORK / options.name)
    (WORK / f"{options.name}.json").write_text(json.dumps(vars(options) | {"log": lines}, indent=1))


if __name__ == "__main__":
    main()
