"""Where a task is built: the device, the folder, the ear for requests to stop, and the voice."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tunesmith.rundir import RunDirectory
from tunesmith.training.reporting import Reporter


@dataclass(frozen=True)
class Workplace:
    """What a method needs besides its orders."""

    device: torch.device
    run: RunDirectory
    reporter: Reporter
    poll: Callable[[], None]
    """Raises `StopRequested` once a stop is asked for. To be called between pieces of longer work."""
