"""What a job's workers printed: the logs of all attempts, one behind the other, as one text that only grows."""

import codecs
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tunesmith.dialects import Opened, Services
from tunesmith.dialects._logs import continuation_bytes, read_log
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import NOT_ONLY_JSON
from tunesmith.dialects.native.streaming import Batch, follow
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.lifecycle import TERMINAL

_PIECE = 64 * 1024
_MEBIBYTE = 1024 * 1024

_BYTES = r"^\d{1,18}$"


class LogReader:
    """Goes through a job's log, waiting at the end for more."""

    def __init__(self, services: Services, job_id: str, start: int) -> None:
        """Raises JobNotFoundError or InvalidRequestError where there is no such job or place."""
        self._jobs = services.jobs
        self._job_id = job_id
        self._start = start
        size = sum(path.stat().st_size for path in self._jobs.logs(job_id))
        if start > size:
            raise InvalidRequestError(f"The log has {size:,} bytes, fewer than {start:,}.", param="after")

    def look(self) -> Batch:
        """The next piece."""
        # The job first: once it has ended, the log read afterwards is complete.
        state = self._jobs.get(self._job_id).state
        found = read_log(self._jobs.logs(self._job_id), self._start, _PIECE)
        is_over = state in TERMINAL and len(found) < _PIECE
        text, used = whole_characters(found, is_end=is_over)
        self._start += used
        events = (ServerSentEvent(event="log", id=str(self._start), data={"text": text}),) if text else ()
        return Batch(events=events, state=state if is_over else None)


def _reader(
    services: Opened,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=2**53, description="Begin behind so many bytes.")] = 0,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", pattern=_BYTES, description="The same; wins over `after`.")
    ] = None,
) -> LogReader:
    return LogReader(services, job_id, int(last_event_id) if last_event_id else after)


def routes() -> APIRouter:
    """The endpoints of logs."""
    router = APIRouter(prefix="/jobs/{job_id}", tags=["logs"], route_class=StrictRoute)

    @router.get("/log", summary="Get the log", response_class=PlainTextResponse, responses=NOT_ONLY_JSON)
    def log(
        services: Opened,
        job_id: str,
        start: Annotated[
            int | None, Query(ge=0, le=2**53, description="First byte; none = so that the answer ends with the log.")
        ] = None,
        limit: Annotated[int, Query(ge=4, le=16 * _MEBIBYTE, description="Most bytes of the answer.")] = _MEBIBYTE,
    ) -> PlainTextResponse:
        """What a job's workers printed, all attempts in order: the end of it, or a part from `start` on. Characters are
        never split: `X-Log-Start` and `X-Log-End` tell which bytes the answer covers, `X-Log-Size` how many there are.
        """
        paths = services.jobs.logs(job_id)
        size = sum(path.stat().st_size for path in paths)
        first = max(size - limit, 0) if start is None else start
        found = read_log(paths, first, limit)
        skipped = continuation_bytes(found) if start is None else 0
        text, used = whole_characters(found[skipped:], is_end=first + len(found) >= size)
        begin = first + skipped
        headers = {"X-Log-Start": str(begin), "X-Log-End": str(begin + used), "X-Log-Size": str(size)}
        return PlainTextResponse(text, headers={**headers, "X-Content-Type-Options": "nosniff"})

    @router.get("/log/stream", summary="Follow the log", response_class=EventSourceResponse, responses=NOT_ONLY_JSON)
    async def stream_log(
        services: Opened, reader: Annotated[LogReader, Depends(_reader)]
    ) -> AsyncIterator[ServerSentEvent]:
        """What a job's workers print, through all attempts, as server-sent events: `event` is `log`, `data` is
        `{"text": …}`, and `id` the number of bytes so far, which resumes. When the job has ended comes an `end`."""
        async for event in follow(reader.look, services.ending):
            yield event

    return router


def whole_characters(content: bytes, *, is_end: bool) -> tuple[str, int]:
    """The text of a content that may end within a character of UTF-8, and how many of its bytes that is.

    What cannot be a character becomes `�`; so does one that is not whole at the very end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(content, is_end)
    return text, len(content) - len(decoder.getstate()[0])
