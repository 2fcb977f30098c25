"""Checks of the home folder and of the address."""

import errno
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from tunesmith.cli.findings import Finding, Status
from tunesmith.cli.output import size

_FEW_BYTES = 10 * 1000**3
_TOO_FEW_BYTES = 500 * 1000**2


def home(folder: Path, host: str, port: int) -> Iterator[Finding]:
    """Whether a server could use the home and the port, or already does."""
    yield _writable(folder)
    yield _disk(folder)
    owner = _owner(folder)
    if owner is None:
        yield Finding("server", Status.PASS, "no server uses this home.")
    else:
        yield Finding("server", Status.PASS, f"a server uses this home (process {owner}).")
    yield _port(host, port, has_server=owner is not None)


def _writable(folder: Path) -> Finding:
    present = _nearest(folder)
    name = str(folder)
    if not present.is_dir():
        return Finding("home", Status.FAIL, f"{present} is not a folder.", "Choose another with --home.")
    if not os.access(present, os.W_OK | os.X_OK):
        hint = "Give this user the right to write there, or choose another folder with --home."
        return Finding("home", Status.FAIL, f"{name}: {present} is not writable.", hint)
    return Finding("home", Status.PASS, name if present == folder else f"{name} will be created in {present}")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(_nearest(folder)).free
    message = f"{size(free)} free on the volume of {folder}"
    hint = "Checkpoints and models of large base models need tens of gigabytes."
    if free < _TOO_FEW_BYTES:
        return Finding("disk", Status.FAIL, message, hint)
    return Finding("disk", Status.WARN, message, hint) if free < _FEW_BYTES else Finding("disk", Status.PASS, message)


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _owner(folder: Path) -> str | None:
    """The process that holds the home's lock."""
    try:
        descriptor = os.open(folder / "server.lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        # Shared, and given back at once: a server that starts at this moment is in nobody's way for long.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    else:
        return None
    finally:
        os.close(descriptor)


def _port(host: str, port: int, *, has_server: bool) -> Finding:
    where = f"{host} port {port}"
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Finding("port", Status.FAIL, f"cannot listen on {where}: {error.strerror}.", "Change --host.")
    else:
        return Finding("port", Status.PASS, f"{where} is free" if port else "0: the server picks a free one")
    version = _tunesmith_version(host, port)
    if version is not None and has_server:
        return Finding("port", Status.PASS, f"Tunesmith {version} answers on {where}")
    user = "another program" if version is None else f"Tunesmith {version} with another home"
    hint = "Stop that program, or choose another port with --port."
    return Finding("port", Status.FAIL, f"{where} is in use by {user}.", hint)


def _tunesmith_version(host: str, port: int) -> str | None:
    import httpx2

    address = f"[{host}]" if ":" in host else host
    try:
        with httpx2.Client(timeout=5, trust_env=False) as http:
            return str(http.get(f"http://{address}:{port}/version").raise_for_status().json()["version"])
    except (httpx2.HTTPError, ValueError, KeyError, TypeError):
        return None
