"""Moving averages of the weights that training moves: what is scored and saved in place of the last step's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averages:
    """An exponential moving average of each parameter: after a step it keeps `keep` of itself.

    Over the first steps it keeps less, so that the weights of the start are soon forgotten.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], keep: float) -> None:
        self._parameters = parameters
        self._values = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._keep = keep
        self._apart: set[str] = set()

    def keep(self, step: int) -> float:
        """The part of itself that an average keeps after step `step` (from 0)."""
        return min(self._keep, (step + 1) / (step + 10))

    def of(self, parameter: nn.Parameter) -> Tensor:
        """The average of one parameter, which from now on is moved by who asks for it and not by `update`."""
        name = next(name for name, own in self._parameters.items() if own is parameter)
        self._apart.add(name)
        return self._values[name]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The averages themselves, by name in a checkpoint."""
        return {f"average.{name}": value for name, value in self._values.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (from 0)."""
        for name, value in self._values.items():
            if name not in self._apart:
                value.lerp_(self._parameters[name].detach(), 1 - self.keep(step))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages as the model's weights, inside the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averages and the model's weights."""
        for name, value in self._values.items():
            parameter = self._parameters[name]
            last = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(last)
