"""Step 6: the student learns to land on the teacher's vectors of the English texts.

A step draws texts (any language, or code) with the teacher's vector t of what they mean in English. With the
student's unit vector s, the loss is (1 - s.t) plus the cross-entropy of softmax(s.T / 0.05) against
softmax(t.T / 0.05), T being all distinct vectors of the batch: closeness, and the right neighbours. Only texts
have to be embedded, so the batch is as large as memory likes.

Batch k is drawn by a generator seeded with k: a run that was killed goes on exactly where its last checkpoint was.

    python distill.py RUN [--layers 1] [--heads 4] [--steps 20000] [--texts 1024] [--rate 2e-3] [--decay 0]
                      [--start OTHER_RUN] [--minutes 0] [--contrast 0] [--pairs 384]

`--contrast` is the share of steps that take pairs instead and contrast each with the others of its step (InfoNCE both
ways): 0 is distillation alone, 1 is contrastive training alone.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import model as seedling
import numpy as np
import torch
import torch.nn.functional as F
from common import WORK
from encode import KINDS, LANGUAGE_TEMPERATURE, SHARES
from fast import closing_hidden
from teacher import load_vectors

from udever.model.bloom import Bloom
from udever.model.packing import Packed
from udever.storage import atomic_file

CODE_TOKENS = 128
TEXT_TOKENS = 96
TEMPERATURE = 0.05
EMA = 0.999


class Students:
    """What can be drawn: rows whose target the teacher has embedded, in their shares."""

    def __init__(self) -> None:
        data = np.load(WORK / "encoded" / "students.npz")
        keys, self.vectors = load_vectors()
        self.ids, self.starts = data["ids"].astype(np.int64), data["starts"]
        place = np.searchsorted(keys, data["target"]).clip(max=len(keys) - 1)
        lengths = np.diff(self.starts)[data["text"]]
        usable = (keys[place] == data["target"]) & ~data["development"] & (lengths > 0)
        self.text, self.target = data["text"][usable], place[usable]
        self.kind, language = data["kind"][usable], data["language"][usable]
        self.pools, self.weights = [], []
        for number, name in enumerate(KINDS):
            rows = np.flatnonzero(self.kind == number)
            if not len(rows):
                continue
            counts = np.bincount(language[rows], minlength=len(data["languages"])).astype(float)
            weight = counts[language[rows]] ** (LANGUAGE_TEMPERATURE - 1)
            self.pools.append((rows, np.cumsum(weight / weight.sum())))
            self.weights.append(SHARES[name])
            print(f"  {name}: {len(rows):,} rows", flush=True)
        self.weights = np.array(self.weights) / sum(self.weights)

    def draw(self, step: int, num_texts: int) -> tuple[Packed, np.ndarray]:
        """The texts of one step, packed longest first, and the number of each one's vector."""
        draw = np.random.default_rng((0, step))
        counts = draw.multinomial(num_texts, self.weights)
        rows = np.concatenate(
            [
                pool[np.searchsorted(cumulated, draw.random(count)).clip(max=len(pool) - 1)]
                for (pool, cumulated), count in zip(self.pools, counts, strict=True)
            ]
        )
        room = np.where(self.kind[rows] == len(KINDS) - 1, CODE_TOKENS, TEXT_TOKENS)
        lengths = np.minimum(np.diff(self.starts)[self.text[rows]], room)
        order = np.argsort(-lengths, kind="stable")
        rows, lengths = rows[order], lengths[order]
        packed = packed_texts(self.ids, self.starts[self.text[rows]], lengths)
        return packed, self.target[rows]


FAMILIES = {
    "code": (0.36, ("code_", "python_library")),
    "questions": (0.14, ("qa_",)),
    "headings": (0.12, ("docs_",)),
    "bitext": (0.22, ("bitext",)),
    "parallel": (0.05, ("parallel_",)),
    "words": (0.03, ("freedict",)),
    "meanings": (0.03, ("wordnet",)),
    "shell": (0.02, ("nl_shell",)),
    "entailment": (0.03, ("nli_",)),
}
"""Pairs that are contrasted with one another: share of the steps, and which sources."""


class Pairs:
    """Pairs to contrast, one family at a time."""

    def __init__(self) -> None:
        self.files = [np.load(WORK / "encoded" / f"{name}.npz") for name in ("contrast", "bitext")]
        self.ids = [file["ids"].astype(np.int64) for file in self.files]
        self.starts = [file["starts"] for file in self.files]
        self.columns = [{name: file[name] for name in ("anchor", "positive", "group")} for file in self.files]
        self.families: list[tuple[int, np.ndarray]] = []
        self.shares = []
        for name, (share, prefixes) in FAMILIES.items():
            which = 1 if name == "bitext" else 0
            file = self.files[which]
            wanted = np.array([str(source).startswith(prefixes) for source in file["sources"]])
            rows = np.flatnonzero(wanted[file["source"]] & ~file["development"])
            if len(rows):
                self.families.append((which, rows))
                self.shares.append(share)
                print(f"  {name}: {len(rows):,} pairs", flush=True)
        self.shares = np.array(self.shares) / sum(self.shares)

    def draw(self, step: int, num_pairs: int) -> tuple[Packed, torch.Tensor, torch.Tensor]:
        """Texts of one step, packed longest first; where each pair's two texts are; which are no negatives."""
        draw = np.random.default_rng((1, step))
        which, rows = self.families[draw.choice(len(self.families), p=self.shares)]
        chosen = rows[draw.integers(len(rows), size=num_pairs)]
        columns, starts = self.columns[which], self.starts[which]
        chosen = chosen[np.unique(columns["anchor"][chosen], return_index=True)[1]]
        chosen = chosen[np.unique(columns["positive"][chosen], return_index=True)[1]]
        anchor, positive, group = (columns[name][chosen] for name in ("anchor", "positive", "group"))
        texts = np.concatenate([anchor, positive])
        lengths = np.minimum(np.diff(starts)[texts], CODE_TOKENS)
        order = np.argsort(-lengths, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        same = (group[:, None] == group[None]) & (group[:, None] >= 0) | (anchor[:, None] == positive[None])
        np.fill_diagonal(same, False)
        packed = packed_texts(self.ids[which], starts[texts[order]], lengths[order])
        return packed, torch.from_numpy(place.reshape(2, -1)), torch.from_numpy(same)


def contrast_of(vectors: torch.Tensor, place: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """InfoNCE both ways over the pairs of one step."""
    scores = (vectors[place[0]] @ vectors[place[1]].T / TEMPERATURE).masked_fill(same, float("-inf"))
    right = torch.arange(len(scores))
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2


def packed_texts(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Packed:
    """Texts of at most `lengths` tokens end to end, each closed."""
    ends = np.cumsum(lengths + 1)
    flat = np.full(ends[-1], seedling.CLOSING, dtype=np.int64)
    for start, length, end in zip(starts, lengths, ends, strict=True):
        flat[end - 1 - length : end - 1] = ids[start : start + length]
    return Packed(torch.from_numpy(flat), tuple((lengths + 1).tolist()))


def loss_of(student: torch.Tensor, teacher: torch.Tensor, unique: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Closeness and neighbours, see above; all rows are unit vectors."""
    close = 1 - (student * teacher).sum(1).mean()
    wanted = (teacher @ unique.T / TEMPERATURE).softmax(1)
    return close, -(wanted * (student @ unique.T / TEMPERATURE).log_softmax(1)).sum(1).mean()


def vectors_of(model: Bloom, packed: Packed) -> torch.Tensor:
    """Unit vectors of a packed batch."""
    return F.normalize(closing_hidden(model, packed), dim=1)


def optimiser(model: Bloom, rate: float) -> torch.optim.Optimizer:
    """AdamW; the table learns at twice the rate, for each of its rows is seldom in a batch."""
    table = [model.word_embeddings.weight]
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name != "word_embeddings.weight"]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": table, "weight_decay": 0.0, "scale": 2.0},
        {"params": matrices, "weight_decay": 0.01, "scale": 1.0},
        {"params": vectors, "weight_decay": 0.0, "scale": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def rate_at(step: int, options: argparse.Namespace) -> float:
    """Linear rise over 200 steps, constant, linear fall to nothing over the last `decay` steps."""
    rate = options.rate * min(1.0, (step + 1) / 200)
    if options.decay and step > options.steps - options.decay:
        rate *= max(0.0, (options.steps - step) / options.decay)
    return rate


class Run:
    """A training run in its folder: state.pt (to go on), ema.pt (to use), log.jsonl, pid."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = WORK / options.run
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "pid").write_text(str(os.getpid()))
        self.step = 0
        state = None
        if (self.folder / "state.pt").exists():
            state = torch.load(self.folder / "state.pt", weights_only=True)
            self.step = state["step"]
            config = state["config"]
            self.model = seedling.make(config["n_layer"], config["n_head"])
        elif options.start:
            self.model = load_model(WORK / options.start)
            while len(self.model.h) < options.layers:
                self.model = seedling.grow(self.model)
        else:
            self.model = seedling.make(options.layers, options.heads)
        self.optimiser = optimiser(self.model, options.rate)
        if state:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
        self.ema = {
            name: tensor.clone() for name, tensor in (state["ema"] if state else self.model.state_dict()).items()
        }

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each whole or not at all."""
        config = {"n_layer": self.model.config.n_layer, "n_head": self.model.config.n_head}
        state = {"step": self.step, "config": config, "model": self.model.state_dict(), "ema": self.ema}
        with atomic_file(self.folder / "state.pt") as path:
            torch.save({**state, "optimiser": self.optimiser.state_dict()}, path)
        with atomic_file(self.folder / "ema.pt") as path:
            torch.save({"step": self.step, "config": config, "model": self.ema}, path)

    def average(self, every: int) -> None:
        """Move the averaged weights; called every so many steps. Early on the average is short."""
        keep = min(EMA**every, (self.step + 1) / (self.step + 10 * every))
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                self.ema[name].lerp_(tensor, 1 - keep)


def load_model(folder: Path) -> Bloom:
    """The averaged weights of a run."""
    state = torch.load(folder / "ema.pt", weights_only=True)
    model = seedling.make(state["config"]["n_layer"], state["config"]["n_head"])
    model.load_state_dict(state["model"])
    return model


def train(options: argparse.Namespace) -> None:
    """Run until `steps`, or for so many minutes of processor time."""
    students = Students() if options.contrast < 1 else None
    pairs = Pairs() if options.contrast > 0 else None
    run = Run(options)
    model = run.model.train()
    saved = logged = time.time()
    sums, counts, tokens = np.zeros(3), np.zeros(3), 0
    while run.step < options.steps and not (options.minutes and time.process_time() > 60 * options.minutes):
        if pairs and (students is None or np.random.default_rng((2, run.step)).random() < options.contrast):
            packed, place, same = pairs.draw(run.step, options.pairs)
            loss = contrast_of(vectors_of(model, packed), place, same)
            sums[2] += loss.item()
            counts[2] += 1
        else:
            packed, target = students.draw(run.step, options.texts)
            distinct, row = np.unique(target, return_inverse=True)
            unique = F.normalize(torch.from_numpy(students.vectors[distinct].astype(np.float32)), dim=1)
            close, neighbours = loss_of(vectors_of(model, packed), unique[torch.from_numpy(row)], unique)
            loss = close + neighbours
            sums[:2] += close.item(), neighbours.item()
            counts[:2] += 1
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert math.isfinite(loss.item()), f"step {run.step}: the loss is not finite"
        for group in run.optimiser.param_groups:
            group["lr"] = rate_at(run.step, options) * group["scale"]
        run.optimiser.step()
        run.step += 1
        if run.step % 10 == 0:
            run.average(10)
        tokens += len(packed.tokens)
        if run.step % 50 == 0:
            mean = sums / counts.clip(min=1)
            line = {"step": run.step, "close": mean[0], "neighbours": mean[1], "contrast": mean[2], "time": time.time()}
            line |= {"tokens_per_second": tokens / (time.time() - logged), "cpu": time.process_time()}
            with (run.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps({k: round(v, 4) for k, v in line.items()}) + "\n")
            sums, counts, tokens, logged = np.zeros(3), np.zeros(3), 0, time.time()
        if time.time() - saved > 180:
            run.save()
            saved = time.time()
    run.save()


def main() -> None:
    """Read the options; see the top of this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--contrast", type=float, default=0)
    parser.add_argument("--pairs", type=int, default=384)
    parser.add_argument("--start")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
