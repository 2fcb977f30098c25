import json
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


def test_what_was_there_before_organisations_belongs_to_that_of_an_open_server(tmp_path):
    with create_engine(f"sqlite:///{tmp_path / 'tunesmith.db'}").connect() as connection:
        command.upgrade(configuration(connection), "0001")
        for table, columns in FIRST_ROWS.items():
            names, values = ", ".join(columns), ", ".join(f":{name}" for name in columns)
            connection.execute(text(f"insert into {table} ({names}) values ({values})"), columns)
        connection.commit()
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    with database.read() as connection:
        for table in ("jobs", "files", "datasets", "models"):
            assert connection.execute(text(f"select org from {table}")).all() == [("local",)]
        assert connection.execute(text("select version from datasets")).all() == [(1,)]
        assert connection.execute(text("select job_id from events")).all() == [("j" * 32,)]
        spec = json.loads(connection.scalar(text("select spec from jobs")))
        assert spec["init_from"] == {"kind": "model", "id": "ft:m:local::1"}
        assert connection.execute(text("pragma foreign_key_check")).all() == []
        assert connection.scalar(text("pragma foreign_keys")) == 1
    database.close()


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
        "org": "local",
        "name": name,
        "version": 1,
        "filename": "x",
        "bytes": 1,
        "sha256": "0" * 64,
        "report": {"format": "text", "rows": 1, "problems": [], "problem_count": 0},
        "created_at": 0.0,
    }


FIRST_ROWS = {
    "jobs": {
        "id": "j" * 32,
        "state": "succeeded",
        "dialect": "training_api",
        "labels": "{}",
        "spec": json.dumps({"init_from": {"model": "ft:m:local::1"}}),
        "submission": "{}",
        "created_at": 0,
        "step": 1,
        "trained_tokens": 1,
        "attempts": 1,
        "fruitless_losses": 0,
    },
    "events": {
        "id": "e" * 32,
        "job_id": "j" * 32,
        "at": 0,
        "level": "info",
        "kind": "state",
        "message": "m",
        "data": "{}",
    },
    "files": {"id": "f" * 32, "filename": "x", "purpose": "fine-tune", "bytes": 1, "sha256": "0", "created_at": 0},
    "datasets": {"name": "v1.0", "filename": "x", "bytes": 1, "sha256": "0", "report": "{}", "created_at": 0},
    "models": {"id": "ft:m:local::1", "job_id": "j" * 32, "base": "m", "kind": "adapter", "path": "p", "created_at": 0},
}
