"""Runs the migrations."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from tunesmith.spec.errors import SettingsError


def upgrade(connection: Connection) -> None:
    """Apply every migration that the database lacks, in one transaction.

    Raises:
        SettingsError: the database has migrations that this version does not know.
    """
    with connection.begin():
        try:
            command.upgrade(configuration(connection), "head")
        except CommandError as error:
            raise SettingsError(
                f"The database was written by a newer version of Tunesmith ({error}).",
                param="home",
                hint="Start that version, or choose another home.",
            ) from error


def configuration(connection: Connection) -> Config:
    """Alembic's settings for work on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
