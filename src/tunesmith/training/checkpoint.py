"""Folders that are either whole or absent: written aside, made durable, listed with digests, then renamed."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.spec.errors import CheckpointError, DiskFullError

MANIFEST = "manifest.json"

_BLOCK = 2**20


def folder_name(step: int) -> str:
    """`step-00000012` for step 12."""
    return f"step-{step:08d}"


def write_folder(target: Path, fill: Callable[[Path], None], facts: dict[str, Any]) -> None:
    """Create a folder with what `fill` writes and a manifest of it. On any failure nothing visible is left.

    Raises:
        DiskFullError: there is no room.
        CheckpointError: the folder cannot be written for another reason of the file system.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        fill(aside)
        _write_manifest(aside, facts)
        remove_folder(target)
        aside.rename(target)
        _sync(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"No room is left to write {target.name}.",
                hint="Free some space and submit the job again; its checkpoints so far are kept.",
            ) from error
        raise CheckpointError(f"{target.name} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def verify_folder(folder: Path) -> dict[str, Any]:
    """The facts of a whole folder.

    Raises:
        CheckpointError: a file is missing or differs from the manifest.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for entry in manifest["files"]:
            path = folder / entry["name"]
            if path.stat().st_size != entry["size"] or _digest(path) != entry["sha256"]:
                raise CheckpointError(f"{folder.name}: {entry['name']} differs from what was written.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder.name} is not whole: {error}") from error
    facts: dict[str, Any] = manifest["facts"]
    return facts


def remove_folder(folder: Path) -> None:
    """Delete a folder so that a crash leaves no visible part of it."""
    if not folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.removed.{os.getpid()}")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = []
    for path in files:
        _sync(path)
        name = path.relative_to(folder).as_posix()
        entries.append({"name": name, "size": path.stat().st_size, "sha256": _digest(path)})
    with (folder / MANIFEST).open("w") as file:
        json.dump({"files": entries, "facts": facts}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for path in {folder, *(path.parent for path in files)}:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
