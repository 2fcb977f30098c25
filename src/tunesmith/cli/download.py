"""A file on its way from the server: written piece by piece, with a bar on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.cli.client import Client
from tunesmith.cli.outcome import CommandError, ExitCode


def download_to(client: Client, path: str, target: Path) -> int:
    """Write what lies at a path of the server. Returns the number of bytes.

    Raises:
        CommandError: the file exists or cannot be written, or the server refuses or breaks off; nothing is left then.
    """
    if target.exists():
        raise CommandError(f"{target} exists already.", hint="Name another file with --to.", code=ExitCode.USAGE)
    aside = target.with_name(f"{target.name}.part")
    try:
        with client.received(path) as (length, pieces), aside.open("wb") as file, _shown(target, length) as advance:
            for piece in pieces:
                file.write(piece)
                advance(len(piece))
        aside.rename(target)
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)
    return target.stat().st_size


@contextmanager
def _shown(target: Path, length: int | None) -> Iterator[Callable[[int], None]]:
    """Told of every piece's length."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(target.name, total=length)
        yield lambda count: progress.advance(task, count)
