import sqlite3
import threading

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from tunesmith.spec.errors import DiskFullError
from tunesmith.store import tables
from tunesmith.store.database import HEAD, Database
from tunesmith.store.migrations.upgrade import configuration


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    yield database
    database.close()


def test_the_migrations_give_the_tables_of_the_code(database):
    with create_engine("sqlite://").connect() as connection:
        config = configuration(connection)
        command.upgrade(config, "head")
        command.check(config)  # raises when the two differ


def test_the_named_head_is_the_newest_migration(database):
    with database.read() as connection:
        assert connection.scalar(text("select version_num from alembic_version")) == HEAD


def test_migrating_twice_changes_nothing(database):
    database.migrate()
    with database.read() as connection:
        assert connection.execute(tables.jobs.select()).all() == []


def test_every_commit_is_synchronous(database):
    with database.write() as connection:
        assert connection.scalar(text("pragma synchronous")) == 2
        assert connection.scalar(text("pragma journal_mode")) == "wal"
        assert connection.scalar(text("pragma foreign_keys")) == 1


def test_a_failed_write_leaves_nothing(database):
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(tables.datasets.insert().values(**_dataset("a")))
        raise ZeroDivisionError
    with database.read() as connection:
        assert connection.execute(tables.datasets.select()).all() == []


def test_many_writers_and_readers_never_see_a_lock(database):
    def work(number):
        try:
            for step in range(20):
                with database.write() as connection:
                    connection.execute(tables.datasets.insert().values(**_dataset(f"{number}-{step}")))
                with database.read() as connection:
                    connection.execute(tables.datasets.select()).all()
        except Exception as error:
            failures.append(error)

    failures = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as connection:
        assert len(connection.execute(tables.datasets.select()).all()) == 320


def test_a_full_disk_is_named(tmp_path):
    database = Database(tmp_path / "small.db")
    database.migrate()
    with database.write() as connection:
        pages = connection.scalar(text("pragma page_count"))
        connection.execute(text(f"pragma max_page_count = {pages}"))
    with pytest.raises(DiskFullError, match="No space"), database.write() as connection:
        for number in range(1000):
            connection.execute(tables.datasets.insert().values(**_dataset(str(number) * 30)))
    database.close()


def test_the_file_is_a_plain_sqlite_database(database, tmp_path):
    with sqlite3.connect(tmp_path / "tunesmith.db") as connection:
        assert connection.execute("pragma quick_check").fetchone() == ("ok",)


def _dataset(name):
    return {
        "name": name,
        "filename": "x",
        "bytes": 1,
        "sha256": "0" * 64,
        "report": {"format": "text", "rows": 1, "problems": [], "problem_count": 0},
        "created_at": 0.0,
    }
