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
        self._parameters = list(parameters.values())
        self._names = list(parameters)
        self._values = [parameter.detach().clone() for parameter in self._parameters]
        self._keep = keep
        self._apart: set[int] = set()

    def keep(self, step: int) -> float:
        """The part of itself that an average keeps after step `step` (from 0)."""
        return min(self._keep, (step + 1) / (step + 10))

    def of(self, parameter: nn.Parameter) -> Tensor:
        """The average of one parameter, which from now on is moved by who asks for it and not by `update`."""
        place = next(i for i, own in enumerate(self._parameters) if own is parameter)
        self._apart.add(place)
        return self._values[place]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The averages themselves, by name in a checkpoint."""
        return {f"average.{name}": value for name, value in zip(self._names, self._values, strict=True)}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (from 0)."""
        for place, (value, parameter) in enumerate(zip(self._values, self._parameters, strict=True)):
            if place not in self._apart:
                value.lerp_(parameter.detach(), 1 - self.keep(step))

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
        for value, parameter in zip(self._values, self._parameters, strict=True):
            last = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(last)
