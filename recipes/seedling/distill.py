"""Step 6: the student learns to land on the teacher's vectors of the English texts.

A step draws texts (any language, or code) with the teacher's vector t of what they mean in English. With the
student's unit vector s, the loss is (1 - s.t) plus the cross-entropy of softmax(s.T / 0.05) against
softmax(t.T / 0.05), T being all distinct vectors of the batch: closeness, and the right neighbours. Only texts
have to be embedded, so the batch is as large as memory likes.

Batch k is drawn by a generator seeded with k: a run that was killed goes on exactly where its last checkpoint was.

    python distill.py RUN [--layers 1] [--heads 4] [--steps 20000] [--texts 1024] [--rate 2e-3] [--decay 0]
                      [--start OTHER_RUN] [--minutes 0]
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import model as seedling
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
        starts = self.starts[self.text[rows]]
        ends = np.cumsum(lengths + 1)
        flat = np.full(ends[-1], seedling.CLOSING, dtype=np.int64)
        for start, length, end in zip(starts, lengths, ends, strict=True):
            flat[end - 1 - length : end - 1] = self.ids[start : start + length]
        return Packed(torch.from_numpy(flat), tuple((lengths + 1).tolist())), self.target[rows]


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
    """Run until `steps`, or for `minutes`."""
    students = Students()
    run = Run(options)
    model = run.model.train()
    started = saved = logged = time.time()
    sums, tokens = np.zeros(2), 0
    while run.step < options.steps and not (options.minutes and time.time() - started > 60 * options.minutes):
        packed, target = students.draw(run.step, options.texts)
        distinct, place = np.unique(target, return_inverse=True)
        unique = F.normalize(torch.from_numpy(students.vectors[distinct].astype(np.float32)), dim=1)
        close, neighbours = loss_of(vectors_of(model, packed), unique[torch.from_numpy(place)], unique)
        run.optimiser.zero_grad(set_to_none=True)
        (close + neighbours).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert math.isfinite(close.item()), f"step {run.step}: the loss is not finite"
        for group in run.optimiser.param_groups:
            group["lr"] = rate_at(run.step, options) * group["scale"]
        run.optimiser.step()
        run.step += 1
        if run.step % 10 == 0:
            run.average(10)
        sums += (close.item(), neighbours.item())
        tokens += len(packed.tokens)
        if run.step % 50 == 0:
            line = {"step": run.step, "close": sums[0] / 50, "neighbours": sums[1] / 50, "time": time.time()}
            line |= {"tokens_per_second": tokens / (time.time() - logged), "cpu": time.process_time()}
            with (run.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps({k: round(v, 4) for k, v in line.items()}) + "\n")
            sums, tokens, logged = np.zeros(2), 0, time.time()
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
    parser.add_argument("--start")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
