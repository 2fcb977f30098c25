"""Threads that fetch things, and that nobody has to wait for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import ParamSpec, Self, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Errands:
    """Runs functions in so many threads, those first that came first. To be used as a context, at whose end nothing
    more is begun.

    The library's pool waits for what is under way, and so does the end of a process that has one. Here neither does: an
    errand at a server that does not answer ends by itself when its time is over.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._ended = threading.Event()
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def __enter__(self) -> Self:
        for _thread in range(self._threads):
            threading.Thread(target=self._run, name="errands", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for _thread in range(self._threads):
            self._waiting.put(lambda: None)  # wakes those that have nothing to do

    def submit(
        self, function: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_Result]:
        """Have a function called. What it returns or raises is in the future."""
        future: Future[_Result] = Future()

        def carry_out() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                future.set_exception(error)

        self._waiting.put(carry_out)
        return future

    def _run(self) -> None:
        while True:
            errand = self._waiting.get()
            if self._ended.is_set():
                return
            errand()
