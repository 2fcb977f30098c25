"""What a method gives the loop: the loop knows steps, a task knows what a sequence, a batch and a loss are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from tunesmith.spec.events import Portion
from tunesmith.training.order import Order
from tunesmith.training.reporting import Reporter
from tunesmith.training.state import Progress

TOKEN_ACCURACY = "token_accuracy"
"""The figure of tasks that learn tokens: the share of trained tokens that were the model's first choice."""


@dataclass(frozen=True)
class Figure:
    """A mean in the making."""

    total: Tensor
    """Scalar on the model's device, without a graph."""

    count: int
    """What the total is a sum over; where it is 0 in a whole step, the figure is not reported."""


@dataclass(frozen=True)
class Measured:
    """What one forward pass found."""

    loss: Tensor
    """Scalar: sum over what the micro-batch counts as `trained`; carries the graph."""

    figures: Mapping[str, Figure] = field(default_factory=dict)
    """What else is reported, by name. The same names in every pass of a task."""


class MicroBatch(Protocol):
    """What one forward pass reads, already on the device."""

    @property
    def tokens(self) -> int:
        """Tokens, without padding."""
        ...

    @property
    def trained(self) -> int:
        """What the loss is a mean over: tokens that carry loss, or pairs, answers or texts."""
        ...

    @property
    def lines(self) -> tuple[int, ...]:
        """Lines of the file that its rows come from, in any order, some of them perhaps twice."""
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
    def order(self) -> Order:
        """Which sequences, of which a batch has `batch_size`, each step trains on."""
        ...

    def micro_batches(self, sequences: Sequence[int]) -> list[MicroBatch]:
        """The forward passes of one optimizer step over these sequences."""
        ...

    def validation_batches(self) -> Iterator[MicroBatch]:
        """The forward passes of one evaluation; none without validation data."""
        ...

    def forward(self, batch: MicroBatch) -> Measured:
        """Loss and figures of one micro-batch."""
        ...

    def stepped(self, step: int) -> None:
        """The optimizer has done this step, from 1."""
        ...

    def sample(self, progress: Progress, reporter: Reporter, poll: Callable[[], None]) -> Progress:
        """Ask the model the job's prompts, report its answers, and return the progress with that done. May leave the
        model in evaluation mode; random generators go on as if nobody had asked."""
        ...

    def lines(self, sequences: Sequence[int]) -> list[int]:
        """Lines of the training file that these sequences come from."""
        ...

    @property
    def portion(self) -> Portion:
        """How much goes through the model at once."""
        ...

    @property
    def can_recompute(self) -> bool:
        """Whether activations can be computed again instead of kept."""
        ...

    def take(self, portion: Portion) -> None:
        """From now on, put no more than this through the model. Recomputing, once begun, is not given up."""
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
