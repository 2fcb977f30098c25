"""The request to stop, which arrives as a signal and is obeyed where it does no harm."""

import signal
from types import FrameType


class StopRequested(BaseException):
    """Unwinds work that may be left unfinished."""


class StopFlag:
    """Set once, by a signal."""

    def __init__(self) -> None:
        self.is_set = False
        self.step = 0
        """The last optimizer step done, to be told when the stop is obeyed."""

    def listen(self) -> None:
        """Set the flag on SIGTERM and SIGINT. Call from the main thread."""
        signal.signal(signal.SIGTERM, self._set)
        signal.signal(signal.SIGINT, self._set)

    def poll(self) -> None:
        """Leave work that can be left.

        Raises:
            StopRequested: the flag is set.
        """
        if self.is_set:
            raise StopRequested

    def _set(self, _signal: int, _frame: FrameType | None) -> None:
        self.is_set = True
