"""A moving average of the trained weights, which is steadier than the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.training_utils import EMAModel
from torch import Tensor


class Average:
    """diffusers' moving average, whose decay climbs to the one asked for: min(decay, (1 + steps) / (10 + steps))."""

    def __init__(self, parameters: list[Any], decay: float) -> None:
        self._parameters = parameters
        self._average = EMAModel(parameters, decay=decay, foreach=True)

    def follow(self, step: int) -> None:
        """Take the weights after an optimizer step into account."""
        self._average.optimization_step = step - 1
        self._average.step(self._parameters)

    def restart(self) -> None:
        """Let the average be the weights as they are now."""
        self._average.shadow_params = [parameter.clone().detach() for parameter in self._parameters]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While open, the model has the average for its weights."""
        own: list[Tensor] = [parameter.detach().clone() for parameter in self._parameters]
        self._average.copy_to(self._parameters)
        try:
            yield
        finally:
            for parameter, tensor in zip(self._parameters, own, strict=True):
                parameter.data.copy_(tensor)

    def take_over(self) -> None:
        """Let the model have the average for its weights from now on."""
        self._average.copy_to(self._parameters)
