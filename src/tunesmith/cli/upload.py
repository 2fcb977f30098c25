"""A file on its way to the server: read piece by piece, with a bar on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Smaller files are sent before a bar could be seen.
_BAR_FROM_BYTES = 8 * 1024**2


@contextmanager
def shown_while_sent(path: Path) -> Iterator[BinaryIO]:
    """The open file."""
    if not sys.stderr.isatty() or path.stat().st_size < _BAR_FROM_BYTES:
        with path.open("rb") as file:
            yield file
        return
    import rich.progress
    from rich.console import Console

    name = path.name
    with rich.progress.open(path, "rb", description=name, console=Console(stderr=True), transient=True) as shown:
        yield shown
