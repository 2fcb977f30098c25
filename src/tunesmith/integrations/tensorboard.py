"""Writes TensorBoard's event files of every job, on this machine."""

import shutil
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith.integrations import TRACKER_DELAYS, Connections, NotToldError
from tunesmith.integrations._figures import KINDS, figures_of, told_once
from tunesmith.store import events as event_rows
from tunesmith.store import feeds
from tunesmith.store.database import Database
from tunesmith.store.events import Event
from tunesmith.store.feeds import Feed
from tunesmith.store.jobs import Job

FOR_EVERY_JOB = True

_PAGE = 1000

_PNG_SIZE_AT = 16
"""Where a PNG file has its width and height."""

_RGB = 3


def create(connections: Connections) -> "TensorboardIntegration":
    """The integration."""
    return TensorboardIntegration(connections)


class TensorboardIntegration:
    """One file for each job. A server that did not begin a file writes it anew: what a killed one left may hold more
    than is on record, and would be told twice."""

    delays = TRACKER_DELAYS

    def __init__(self, connections: Connections) -> None:
        self._database = connections.database
        self._folder = connections.folder
        self._picture = connections.results.picture
        self._files: dict[str, _EventFile] = {}

    def kinds(self, _feed: Feed) -> Collection[str]:
        """See `Integration`."""
        return ("state", *KINDS)

    def receiver(self, feed: Feed) -> str:
        """See `Integration`. Files do not share anything."""
        return feed.id

    def tell(self, feed: Feed, job: Job, events: Sequence[Event]) -> int:
        """See `Integration`."""
        with self._database.read() as connection:
            fresh = [event for event in told_once(connection, events) if event.kind in KINDS]
        if fresh:
            try:
                file = self._files.get(feed.id) or self._begin(feed, job)
                file.write(fresh)
            except OSError as error:
                self.close(feed)  # what of the batch was written is unknown
                reason = f"The event file cannot be written: {error.strerror}."
                raise NotToldError(events[-1], reason, first=events[0]) from None
        return events[-1].number

    def give_up(self, _feed: Feed) -> None:
        """See `Integration`. The feed itself says what was given up."""

    def close(self, feed: Feed) -> None:
        """See `Integration`."""
        file = self._files.pop(feed.id, None)
        if file is not None:
            file.close()

    def stop(self) -> None:
        """See `Integration`."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _begin(self, feed: Feed, job: Job) -> "_EventFile":
        """A new file that holds what was told before."""
        folder = self._folder / job.id / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        file = self._files[feed.id] = _EventFile(folder, self._picture)
        for page in _told_before(self._database, feed):
            file.write(page)
        with self._database.write() as connection:
            feeds.change(connection, feed.id, url=folder.as_uri())
        return file


class _EventFile:
    """One file of events. What was written can be read at once."""

    def __init__(self, folder: Path, picture: Callable[[Event], Path | None]) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self._writer: Any = EventsWriter(str(folder / "events"))
        self._picture = picture

    def write(self, found: Sequence[Event]) -> None:
        from tensorboardX.proto.event_pb2 import Event as Record

        for event in found:
            summary = _summary(event, self._picture)
            self._writer.write_event(Record(wall_time=event.at, step=event.data["step"], summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _summary(event: Event, picture: Callable[[Event], Path | None]) -> Any:
    """The figures of an event, or the answer that it shows, as TensorBoard has them."""
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import text

    figures = figures_of(event)
    if figures is not None:
        return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in figures.values.items()])
    tag, drawn = f"sample/{event.data['number']}", picture(event)
    if drawn is not None:
        return Summary(value=[Summary.Value(tag=tag, image=_image(drawn.read_bytes()))])
    return text(tag, f"{event.data['prompt']}\n\n---\n\n{event.data['text'] or ''}")


def _image(png: bytes) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    width, height = struct.unpack_from(">II", png, _PNG_SIZE_AT)
    return Summary.Image(width=width, height=height, colorspace=_RGB, encoded_image_string=png)


def _told_before(database: Database, feed: Feed) -> Iterator[list[Event]]:
    """What a feed has told, a page at a time."""
    after = 0
    while True:
        with database.read() as connection:
            page = event_rows.of_job(
                connection, feed.job_id, kinds=KINDS, after=after, before=feed.cursor + 1, limit=_PAGE
            )
            fresh = told_once(connection, page)
        if not page:
            return
        yield fresh
        after = page[-1].number
