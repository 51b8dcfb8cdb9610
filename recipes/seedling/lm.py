"""Arm (b), first half: the same network as a language model, before anything else -> a run that distill.py starts from.

Cross-entropy of the next token over the tied table, on the training texts (sentences of every language, documents,
code), packed, through the package's own BLOOM with every position attending. The softmax is over the tokens of the
batch and 8,192 others drawn evenly: over all 32,768 it would cost five times as much as the network.

    python lm.py RUN [--layers 1] [--heads 4] [--minutes 10] [--texts 256] [--rate 2e-3]
"""

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
from common import WORK
from distill import Pairs, Run, Students, packed_texts

from udever.model.attention import attention_over

SAMPLED = 8192


def loss_of(model: torch.nn.Module, packed: object, draw: np.random.Generator) -> torch.Tensor:
    """Mean cross-entropy of every token but each text's first."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(attention_over(packed, causal=True))
        asks = torch.ones(len(packed.tokens), dtype=torch.bool)
        asks[packed.last] = False
        next_token = packed.tokens[1:][asks[:-1]]
        drawn = torch.from_numpy(draw.integers(model.config.vocab_size, size=SAMPLED))
        candidates, place = torch.unique(torch.cat((next_token, drawn)), return_inverse=True)
        scores = hidden[asks] @ model.word_embeddings(candidates).T
    return F.cross_entropy(scores.float(), place[: len(next_token)])


def main() -> None:
    """Train for some minutes of processor time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()
    options.start = None
    students, pairs, run = Students(), Pairs(), Run(options)
    model, tokens = run.model.train(), 0
    code = pairs.families[0]
    while time.process_time() < 60 * options.minutes:
        draw = np.random.default_rng((3, run.step))
        if run.step % 4 == 3:  # whole functions
            which, rows = code
            texts = pairs.columns[which]["positive"][rows[draw.integers(len(rows), size=options.texts // 8)]]
            lengths = np.sort(np.diff(pairs.starts[which])[texts].clip(1, 256))[::-1]
            order = np.argsort(-np.diff(pairs.starts[which])[texts], kind="stable")
            packed = packed_texts(pairs.ids[which], pairs.starts[which][texts[order]], lengths)
        else:
            packed, _ = students.draw(run.step, options.texts)
        loss = loss_of(model, packed, draw)
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in run.optimiser.param_groups:
            group["lr"] = options.rate * min(1.0, (run.step + 1) / 100) * group["scale"]
        run.optimiser.step()
        run.step += 1
        tokens += len(packed.tokens)
        if run.step % 10 == 0:
            run.average(10)
        if run.step % 50 == 0:
            line = {
                "step": run.step,
                "loss": round(loss.item(), 4),
                "tokens": tokens,
                "cpu": round(time.process_time(), 1),
            }
            with (WORK / options.run / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
    run.save()


if __name__ == "__main__":
    main()
