"""`tunesmith serve`. The server's parts are imported only here, and nothing else is imported for it."""

import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Never

import typer

from tunesmith.cli.commands import command
from tunesmith.cli.outcome import settings_faults
from tunesmith.cli.output import say

Home = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that holds everything. [~/.tunesmith]")]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "serve", "tunesmith serve", "tunesmith serve --home /data/tunesmith --port 8000")
    def serve(
        home: Home = None,
        host: Annotated[str | None, typer.Option(metavar="HOST", help="Address to listen on. [127.0.0.1]")] = None,
        port: Annotated[
            int | None, typer.Option(metavar="PORT", help="Port to listen on; 0 picks a free one. [23478]")
        ] = None,
    ) -> None:
        """Run the server until Ctrl-C.

        Trainings that run at its end go on without it, and the next start takes them over.
        Options win over the environment (TUNESMITH_HOME, TUNESMITH_PORT, …), which wins over tunesmith.toml in the
        home.
        """
        signal.signal(signal.SIGTERM, _end)
        with settings_faults():
            _serve(home, host, port)


def _serve(home: Path | None, host: str | None, port: int | None) -> None:
    import tunesmith
    from tunesmith.server.serve import serve
    from tunesmith.server.settings import load_settings

    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("tunesmith").setLevel(logging.INFO)
    settings = load_settings(home=home, host=host, port=port)

    def announce(url: str) -> None:
        say(
            f"Tunesmith {tunesmith.__version__} serves {url} (home {settings.home}); "
            "Ctrl-C ends the server, running trainings go on."
        )

    with suppress(KeyboardInterrupt):
        serve(settings, announce)
        # uvicorn lets the signal that ended it happen again, so this line is often not reached.
    _tell_of_jobs(settings.home)


def _end(_number: int, _frame: FrameType | None) -> Never:
    """A request of the service manager to end is the same as Ctrl-C."""
    raise KeyboardInterrupt


def _tell_of_jobs(folder: Path) -> None:
    """Say what goes on without the server, and what waits for its return."""
    from tunesmith.server.home import Home
    from tunesmith.spec.lifecycle import ACTIVE, State
    from tunesmith.store import jobs
    from tunesmith.store.database import Database

    home = Home(folder)
    if not home.database.exists():
        return
    database = Database(home.database)
    with database.read() as connection:
        running = len(jobs.in_state(connection, *ACTIVE))
        waiting = len(jobs.in_state(connection, State.QUEUED))
    database.close()
    if running:
        say(f"{_jobs(running)} in training, which goes on; start the server again to follow.")
    if waiting:
        say(f"{_jobs(waiting)} waiting for the server's next start.")


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"
