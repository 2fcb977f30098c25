"""What a method gives the loop: the loop knows steps, a task knows what a sequence, a batch and a loss are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from tunesmith.training.losses import Sums


class MicroBatch(Protocol):
    """What one forward pass reads, already on the device."""

    @property
    def tokens(self) -> int:
        """Tokens, without padding."""
        ...

    @property
    def trained(self) -> int:
        """Tokens that carry loss."""
        ...


class Task(Protocol):
    """A model, its data and its loss."""

    @property
    def model(self) -> torch.nn.Module:
        """What is trained: its parameters that require gradients."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        ...

    @property
    def sequence_count(self) -> int:
        """Training sequences of one epoch, which `batch_size` counts."""
        ...

    def micro_batches(self, sequences: Sequence[int]) -> list[MicroBatch]:
        """The forward passes of one optimizer step over these sequences."""
        ...

    def validation_batches(self) -> Iterator[MicroBatch]:
        """The forward passes of one evaluation; none without validation data."""
        ...

    def forward(self, batch: MicroBatch) -> Sums:
        """Loss and hits of one micro-batch, summed over its trained tokens."""
        ...

    def lines(self, sequences: Sequence[int]) -> list[int]:
        """Lines of the training file that these sequences come from."""
        ...

    def save(self, folder: Path) -> None:
        """Write the trained weights, exactly, and all that plain libraries need to use them."""
        ...

    def load(self, folder: Path) -> None:
        """Take the trained weights back from a folder that `save` wrote."""
        ...

    def export(self, folder: Path) -> None:
        """Write the artifact: the weights in the format in which they are used."""
        ...

    def verify(self, folder: Path) -> float:
        """Load the artifact with plain libraries. Returns by how much it changes the base model's logits.

        Raises:
            ArtifactError: it is not finite, does not load, differs from the trained model or changes nothing.
        """
        ...
