"""Decoding and scaling pictures takes as long as training on them: it is done for one step while another is trained."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tunesmith.spec.events import Portion
from tunesmith.training.order import DataOrder
from tunesmith.training.task import MicroBatch

_Key = tuple[Sequence[int], Portion]
"""The sequences of a step, and how they are shared out."""


class FollowedOrder(DataOrder):
    """An order that tells what comes next."""

    following: Sequence[int] = ()
    """Sequences of the step behind the one that was asked for last; none behind the last step."""

    def batch(self, step: int) -> list[int]:
        """Sequences of the step with this index, from 0."""
        found = super().batch(step)
        self.following = super().batch(step + 1) if step + 1 < self.total else ()
        return found


class PassesAhead:
    """Makes the forward passes of one step in a thread of its own, until they are asked for."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "pictures")
        self._key: _Key | None = None
        self._passes: Future[list[MicroBatch]] | None = None

    def passes(self, key: _Key, make: Callable[[], list[MicroBatch]]) -> list[MicroBatch]:
        """Those that were begun under this key, else new ones. Raises what `make` raises."""
        begun, self._passes = self._passes, None
        if begun is None or key != self._key:
            return make()
        return begun.result()

    def begin(self, key: _Key, make: Callable[[], list[MicroBatch]]) -> None:
        """Make these next."""
        self._key, self._passes = key, self._pool.submit(make)
