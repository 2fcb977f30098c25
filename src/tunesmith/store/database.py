"""The embedded database: one writer, many readers.

SQLite before 3.51.3 can corrupt a WAL database when two connections write or checkpoint at the same moment, so there is
exactly one writing connection, in the one server process, behind a lock. `synchronous=FULL`, because an answered
request must survive a power cut. Write transactions begin IMMEDIATE: one that starts reading and upgrades later is
refused at once, whatever the busy timeout.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.pool import QueuePool, StaticPool

from tunesmith.spec.errors import DiskFullError

# The revision of the newest file in migrations/versions. Comparing with it spares a start the import of Alembic.
HEAD = "0008"


class Database:
    """Transactions on one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writer = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args=_CONNECT)
        self._readers = create_engine(
            f"sqlite:///{path}", poolclass=QueuePool, pool_size=8, max_overflow=64, connect_args=_CONNECT
        )
        for engine, begin in ((self._writer, "BEGIN IMMEDIATE"), (self._readers, "BEGIN")):
            _configure(engine, begin)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: committed at the end, rolled back on an error.

        Raises:
            DiskFullError: the volume has no room; nothing was changed.
        """
        with self._lock:
            try:
                with self._writer.begin() as connection:
                    yield connection
            except Exception as error:
                if _is_disk_full(error):
                    raise DiskFullError(f"No space is left on the volume of {str(self._path)!r}.") from error
                raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent view."""
        with self._readers.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the schema up to date."""
        with self._lock, self._writer.connect() as connection:
            if _revision(connection) == HEAD:
                return
            connection.rollback()
            from tunesmith.store.migrations.upgrade import upgrade

            # SQLite changes a table by writing it anew and dropping the old one: that would count as deleting its rows.
            connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            upgrade(connection)
            connection.connection.cursor().execute("PRAGMA foreign_keys=ON")

    def close(self) -> None:
        """Close all connections."""
        self._readers.dispose()
        self._writer.dispose()


# Autocommit mode of the driver: transactions are begun and ended by SQLAlchemy's events alone.
_CONNECT = {"isolation_level": None, "timeout": 10.0, "check_same_thread": False}


def _configure(engine: Engine, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(select(text("version_num")).select_from(text("alembic_version")))
    return found


def _is_disk_full(error: BaseException) -> bool:
    original = getattr(error, "orig", error)
    return isinstance(original, sqlite3.Error) and getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
