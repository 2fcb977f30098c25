"""Which contents are still needed. Deleting a file hides it; its content goes when nothing stands for it any more."""

from sqlalchemy import Connection

from tunesmith.spec.lifecycle import TERMINAL, State
from tunesmith.storage import Storage
from tunesmith.store import files, jobs

_LIVE = tuple(state for state in State if state not in TERMINAL)


class ContentUse:
    """Knows who still needs a content."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def release(self, connection: Connection, sha256: str) -> None:
        """Remove a content unless a file, a dataset or a job that has not ended needs it."""
        if files.is_named(connection, sha256):
            return
        for job in jobs.in_state(connection, *_LIVE):
            sources = (job.spec.data.train, job.spec.data.validation)
            if any(source is not None and sha256 in (source.sha256, source.pictures) for source in sources):
                return
        self._storage.remove(sha256)
