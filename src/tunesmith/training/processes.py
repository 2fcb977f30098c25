"""Helper processes that prepare rows while this one reads, waits or trains.

They are forked, so that they have the tokenizer at once and share its memory. They never use torch. They end with this
process, whatever ends it: each holds one end of a pipe whose other end is here alone.
"""

import copyreg
import gc
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotDoneError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import MappingProxyType, TracebackType
from typing import Any, Generic, Self, TypeVar

from tunesmith.spec.errors import OutOfMemoryError

G = TypeVar("G")
D = TypeVar("D")

_POLL_SECONDS = 0.1
_AHEAD = 4
"""Pieces of work for each process that are under way at once."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class Helpers(Generic[G, D]):
    """Some processes that do one kind of work. `poll` is called while this one waits for them."""

    def __init__(self, work: Callable[[G], D], poll: Callable[[], None], count: int) -> None:
        self.count = count
        self._poll = poll
        reader, self._lifeline = os.pipe()
        self._executor = ProcessPoolExecutor(
            count, get_context("fork"), initializer=_begin, initargs=(work, reader, self._lifeline)
        )
        self._executor.submit(os.getpid)  # forks all of them
        os.close(reader)

    def submit(self, given: G) -> "Future[D]":
        """Begin a piece of work."""
        return self._executor.submit(_work, given)

    def result(self, future: "Future[D]") -> D:
        """Wait for a piece of work. Raises what it raised.

        Raises:
            OutOfMemoryError: a process was killed.
        """
        while True:
            try:
                return future.result(_POLL_SECONDS)
            except NotDoneError:
                self._poll()
            except BrokenProcessPool as error:
                raise OutOfMemoryError(
                    "A process that prepares rows was killed; most often that is for want of memory.",
                    hint="Give the machine more memory, or let fewer jobs run at a time.",
                ) from error

    def map(self, pieces: Iterable[G]) -> Iterator[D]:
        """Results in order. What reading a piece raises comes after the results of those before it."""
        under_way: deque[Future[D]] = deque()
        try:
            for piece in pieces:
                under_way.append(self.submit(piece))
                if len(under_way) >= _AHEAD * self.count:
                    yield self.result(under_way.popleft())
        except Exception:
            for future in under_way:
                self.result(future)
            raise
        for future in under_way:
            yield self.result(future)

    def close(self) -> None:
        """End them."""
        self._executor.shutdown(cancel_futures=True)
        os.close(self._lifeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()


_given: list[Callable[[Any], Any]] = []
"""In a helper: what it does."""


def _view(fields: dict[str, Any]) -> "MappingProxyType[str, Any]":
    return MappingProxyType(fields)


copyreg.pickle(MappingProxyType, lambda view: (_view, (dict(view),)))  # what turns have beside their text


def _begin(work: Callable[[Any], Any], lifeline: int, other_end: int) -> None:
    """The first thing that a helper does."""
    _given.append(work)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads of the tokenizer do not survive a fork
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # requests to stop are this process's parent's to obey
    gc.freeze()
    os.close(other_end)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(0)


def _work(given: Any) -> Any:
    return _given[0](given)
