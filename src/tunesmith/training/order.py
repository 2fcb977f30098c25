"""Which sequences each step trains on."""

import torch

from tunesmith.spec.job import OptimizationSpec
from tunesmith.training.optim import count_steps, steps_per_epoch


class DataOrder:
    """A new permutation each epoch, cut into batches. Any step can be asked for, so resuming needs no replay.

    The permutations are those of accelerate's `SeedableRandomSampler`, which the Trainers of transformers and TRL use.
    """

    def __init__(self, optimization: OptimizationSpec, sequences: int) -> None:
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
            generator = torch.Generator().manual_seed(self._seed + epoch)
            self._permutation = torch.randperm(self._sequences, generator=generator).tolist()
            self._epoch = epoch
        return self._permutation[within * self._batch : (within + 1) * self._batch]

    def epochs_after(self, step: int) -> float:
        """Passes over the data completed by this many steps."""
        return step / self._steps

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with this many steps done."""
        return step % self._steps == 0


def planned_batches(optimization: OptimizationSpec, sequences: int) -> list[list[int]]:
    """The sequences of each step of a whole job."""
    order = DataOrder(optimization, sequences)
    return [order.batch(step) for step in range(count_steps(optimization, sequences))]
