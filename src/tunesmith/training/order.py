"""Which sequences each step trains on."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from tunesmith.spec.errors import CheckpointError
from tunesmith.spec.job import OptimizationSpec
from tunesmith.training.optim import count_steps, steps_per_epoch


class Order(Protocol):
    """The sequences of each step, the same in every run of a job.

    Steps are asked for in their order; the last few may be asked for again.
    """

    @property
    def total(self) -> int:
        """Steps of the whole job."""
        ...

    def batch(self, step: int) -> list[int]:
        """Sequences of the step with this index, from 0."""
        ...

    def epochs_after(self, step: int) -> float:
        """Passes over the data completed by this many steps."""
        ...

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with this many steps done."""
        ...

    def state(self, step: int) -> dict[str, Any]:
        """What `restore` needs to go on after this many steps, as JSON."""
        ...

    def restore(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on after this many steps.

        Raises:
            CheckpointError: the state is that of another order.
        """
        ...

    def finish(self) -> None:
        """Report what was seen, after the last step."""
        ...

    def close(self) -> None:
        """End what prepares sequences; no more are asked for."""
        ...


class DataOrder:
    """A new permutation each epoch, cut into batches. Any step can be asked for, so resuming needs no replay.

    The permutations are those of accelerate's `SeedableRandomSampler`, which the Trainers of transformers and TRL use.
    """

    def __init__(self, optimization: OptimizationSpec, sequences: int) -> None:
        self.total = count_steps(optimization, sequences)
        self._seed = optimization.seed
        self._batch = optimization.batch_size
        self._sequences = sequences
        self._steps = steps_per_epoch(optimization, sequences)
        self._epoch = -1
        self._permutation: list[int] = []

    def batch(self, step: int) -> list[int]:
        """Sequences of the step with this index, from 0."""
        epoch, within = divmod(step, self._steps)
        if epoch != self._epoch:
            self._permutation = permutation(self._seed, epoch, self._sequences).tolist()
            self._epoch = epoch
        return self._permutation[within * self._batch : (within + 1) * self._batch]

    def epochs_after(self, step: int) -> float:
        """Passes over the data completed by this many steps."""
        return step / self._steps

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with this many steps done."""
        return step % self._steps == 0

    def state(self, _step: int) -> dict[str, Any]:
        """Nothing: the step says it all."""
        return {}

    def restore(self, _step: int, state: Mapping[str, Any]) -> None:
        """Nothing is to be done.

        Raises:
            CheckpointError: the state is that of another order.
        """
        if state:
            raise CheckpointError("Its position in the data is that of a training which prepared rows as it went.")

    def finish(self) -> None:
        """Nothing is left to tell."""

    def close(self) -> None:
        """Nothing is under way."""


def permutation(seed: int, epoch: int, count: int) -> torch.Tensor:
    """The numbers below `count` in the order of an epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))


def planned_batches(optimization: OptimizationSpec, sequences: int) -> list[list[int]]:
    """The sequences of each step of a whole job."""
    order = DataOrder(optimization, sequences)
    return [order.batch(step) for step in range(order.total)]
