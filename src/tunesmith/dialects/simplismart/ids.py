"""Ids of files as this dialect writes them: with the prefix that uploads are answered with."""

_FILE = "file-"


def render_file_id(id: str) -> str:
    """A file's id."""
    return f"{_FILE}{id}"


def file_id(wire: str) -> str | None:
    """A file's id, or none where the text names something else."""
    return wire.removeprefix(_FILE) if wire.startswith(_FILE) else None
