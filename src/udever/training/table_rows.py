"""AdamW for a table of tokens, step by step only on the rows that a batch reads.

A batch holds a few thousand of the tokens, and a step over all rows, with gradient, two moments and an average of each,
takes longer than everything else. A row that no text holds goes on by its momentum alone, and how far is known
beforehand: so it is moved when it is next read, by all the steps since at once, to where AdamW would have it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from udever.training.averages import Averages

_MOST_BEHIND = 512
"""Steps after which every row is brought up to date, so that only so many rates must be known."""
_CHUNK_ROWS = 16384


@dataclass
class TableRows:
    """The rows of `table` in `optimizer`, an AdamW that is left without its gradient.

    Moments stand in the optimiser's state as for any parameter. They, the weights and the average are right for rows
    that were read and, after `settle`, for all.
    """

    table: nn.Embedding
    optimizer: torch.optim.AdamW
    averages: Averages | None = None
    _at: Tensor = field(init=False)
    _moved: Tensor = field(init=False)
    _kept: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.table.sparse = True
        self._hook = self.table.register_forward_pre_hook(self._before_reading)
        state = self.optimizer.state[self.weight]
        state["step"] = torch.tensor(0.0)
        state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(self.weight) for _ in range(2))
        # how far m / sqrt(v) of a row moved that is so many steps behind, and what is left of its average
        self._moved = torch.zeros(_MOST_BEHIND + 1, dtype=torch.float64)
        self._kept = torch.ones(_MOST_BEHIND + 1, dtype=torch.float64)
        self._at = torch.zeros(len(self.weight), dtype=torch.int64)

    @property
    def weight(self) -> nn.Parameter:
        """The table's weights."""
        return self.table.get_parameter("weight")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All there is, by name in a checkpoint: as it stands in memory, rows that are behind included."""
        state = self.optimizer.state[self.weight]
        named = {name: state[name] for name in ("exp_avg", "exp_avg_sq")} | {"weight": self.weight.detach()}
        if self.averages:
            named["average"] = self.averages.of(self.weight)
        named |= {"at": self._at, "moved": self._moved, "kept": self._kept}
        return {f"rows.{name}": tensor for name, tensor in named.items()}

    @contextmanager
    def settled(self) -> Iterator[dict[str, Tensor]]:
        """All rows brought up to date inside the block, which is given `tensors` as they are before and after.

        So a run that writes a checkpoint goes on as one that does not: to bring a row up to date in two goes rounds
        otherwise than in one.
        """
        before = {name: tensor.clone() for name, tensor in self.tensors.items()}
        self.settle()
        try:
            yield before
        finally:
            self.load(before)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the state that was given by `settled`."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    def restart(self) -> None:
        """Take weights, moments and average as they are now for right for all rows."""
        self._at.fill_(self.step_number)

    @property
    def step_number(self) -> int:
        """Steps taken."""
        return int(self.optimizer.state[self.weight]["step"])

    def _group(self) -> dict[str, Any]:
        return next(g for g in self.optimizer.param_groups if any(p is self.weight for p in g["params"]))

    def gradient(self) -> tuple[Tensor, Tensor]:
        """The rows that the batch read and the gradient of each, [rows] and [rows, width]; taken off the weights."""
        sparse, self.weight.grad = self.weight.grad, None
        if sparse is None:
            return torch.empty(0, dtype=torch.int64), self.weight.new_empty(0, self.weight.shape[1])
        rows, place = sparse._indices()[0].unique(return_inverse=True)
        values = sparse._values()
        return rows, values.new_zeros(len(rows), values.shape[1]).index_add_(0, place, values)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor) -> None:
        """One AdamW step: `rows`, which must have been read, by their `gradient`, all others when they are read."""
        state, group = self.optimizer.state[self.weight], self._group()
        first, second = group["betas"]
        state["step"] += 1
        now = self.step_number
        rate = float(group["lr"]) * (1 - second**now) ** 0.5 / (1 - first**now)
        mean = state["exp_avg"][rows].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        epsilon = group["eps"] * (1 - second**now) ** 0.5
        weight = self.weight[rows].addcdiv_(mean, square.sqrt().add_(epsilon), value=-rate)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        self.weight.index_copy_(0, rows, weight)
        self._at[rows] = now
        keep = self.averages.keep(now - 1) if self.averages else 1.0
        if self.averages:
            value = self.averages.of(self.weight)
            value.index_copy_(0, rows, value[rows].lerp_(weight, 1 - keep))
        self._remember(rate, first / second**0.5, keep)
        if now % _MOST_BEHIND == 0:
            self.settle()

    def _remember(self, rate: float, ratio: float, keep: float) -> None:
        """One step more that rows are behind: row k of `_moved` is of those that are k steps behind."""
        steps = torch.arange(1, _MOST_BEHIND + 1, dtype=torch.float64)
        self._moved[1:] = self._moved[:-1] + rate * ratio**steps
        self._kept[1:] = self._kept[:-1] * keep

    def _before_reading(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.table.training:
            self._bring_up(inputs[0].unique())

    def settle(self) -> None:
        """Bring all rows up to date."""
        for rows in (self._at < self.step_number).nonzero()[:, 0].split(_CHUNK_ROWS):
            self._bring_up(rows)

    @torch.no_grad()
    def _bring_up(self, rows: Tensor) -> None:
        now = self.step_number
        rows = rows[self._at[rows] < now]
        if not len(rows):
            return
        state, group = self.optimizer.state[self.weight], self._group()
        behind = now - self._at[rows]
        first, second = group["betas"]
        mean, square = state["exp_avg"][rows], state["exp_avg_sq"][rows]
        speed = mean / square.sqrt().add_(group["eps"])
        weight = self.weight[rows].sub_(speed.mul_(self._moved[behind].to(speed.dtype)[:, None]))
        self.weight.index_copy_(0, rows, weight)
        state["exp_avg"].index_copy_(0, rows, mean.mul_((first ** behind.double()).to(mean.dtype)[:, None]))
        state["exp_avg_sq"].index_copy_(0, rows, square.mul_((second ** behind.double()).to(mean.dtype)[:, None]))
        if self.averages:
            value = self.averages.of(self.weight)
            value.index_copy_(0, rows, weight + (value[rows] - weight) * self._kept[behind].to(weight.dtype)[:, None])
        self._at[rows] = now

    def close(self) -> None:
        """Bring all rows up to date and let the table be as any other again."""
        self.settle()
        self._hook.remove()
        self.table.sparse = False
