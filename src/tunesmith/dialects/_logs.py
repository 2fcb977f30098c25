"""What a job's workers printed: the log files of all its attempts, one behind the other."""

from collections.abc import Sequence
from pathlib import Path


def read_log(paths: Sequence[Path], start: int, limit: int) -> bytes:
    """At most `limit` bytes from the byte `start` on, as if the files were one."""
    found = b""
    for path in paths:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if start < size:
                file.seek(start)
                found += file.read(limit - len(found))
            start = max(start - size, 0)
        if len(found) >= limit:
            break
    return found


def end_of_log(paths: Sequence[Path], limit: int) -> str:
    """The last whole characters in at most `limit` bytes; what cannot be a character becomes `�`."""
    size = sum(path.stat().st_size for path in paths)
    found = read_log(paths, max(size - limit, 0), limit)
    return found[continuation_bytes(found) :].decode(errors="replace")


def continuation_bytes(content: bytes) -> int:
    """How many bytes at the beginning belong to a character that began before."""
    return next((index for index, byte in enumerate(content[:3]) if byte & 0b1100_0000 != 0b1000_0000), 0)
