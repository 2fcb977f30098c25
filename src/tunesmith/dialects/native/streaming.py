"""Streams of server-sent events (SSE): what is new is read from the store again and again, in short calls of a thread.

No client holds a thread or a connection to the database, and at most one batch is in memory for each. Keep-alive
comments, and the end of a stream whose client has gone, are FastAPI's.
"""

import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
from fastapi.sse import ServerSentEvent

_POLL_SECONDS = 0.5
_RETRY_MILLISECONDS = 2000


@dataclass(frozen=True)
class Batch:
    """What one look brought."""

    events: tuple[ServerSentEvent, ...]
    state: str | None = None
    """How the job ended, where nothing can follow any more."""


async def follow(look: Callable[[], Batch], ending: threading.Event) -> AsyncIterator[ServerSentEvent]:
    """Everything that looking brings until the job has ended, and an event `end` then. When the server ends, the stream
    breaks off, for the client to come back.

    `look` is called in a worker thread and goes on where its last call stopped.
    """
    yield ServerSentEvent(retry=_RETRY_MILLISECONDS)
    while not ending.is_set():
        batch = await anyio.to_thread.run_sync(look)
        for event in batch.events:
            yield event
        if batch.state is not None:
            yield ServerSentEvent(event="end", data={"state": batch.state})
            return
        if not batch.events:
            await anyio.sleep(_POLL_SECONDS)
