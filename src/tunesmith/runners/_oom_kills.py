"""How often the kernel has ended processes for want of memory, as far as it tells."""

from pathlib import Path

_NAME = "oom_kill"


def count_oom_kills(root: Path = Path("/")) -> int | None:
    """The kernel's own count for the control group of this process, else for the machine; none if neither can be read.

    Workers are in the same group as the server that started them. `root` is where `proc` and `sys` are mounted.
    """
    groups = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        # Within a container the path may be that of the host, while only the group itself is mounted.
        for folder in (path.lstrip("/"), ""):
            if not controllers:  # version 2
                count = _value(groups / folder / "memory.events")
            elif "memory" in controllers.split(","):
                count = _value(groups / "memory" / folder / "memory.oom_control")
            else:
                continue
            if count is not None:
                return count
    return _value(root / "proc/vmstat")


def _value(path: Path) -> int | None:
    """The number behind the name of the counter."""
    for line in _lines(path):
        name, _, value = line.partition(" ")
        if name == _NAME and value.isdecimal():
            return int(value)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
