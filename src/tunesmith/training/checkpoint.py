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
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError(
                f"No room is left to write {target.name}.",
                hint="Free some space and submit the job again; its checkpoints so far are kept.",
            ) from error
        if isinstance(error, OSError):
            raise CheckpointError(f"{target.name} cannot be written: {_why(error)}") from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a volume has no room left. Libraries written in Rust say so in words only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "(os error 28)" in str(error)


def verify_folder(folder: Path) -> dict[str, Any]:
    """The facts of a whole folder.

    Raises:
        CheckpointError: a file is missing or differs from the manifest.
    """
    manifest = _read_manifest(folder)
    try:
        for entry in manifest["files"]:
            path = folder / entry["name"]
            if path.stat().st_size != entry["size"] or _digest(path) != entry["sha256"]:
                raise CheckpointError(f"{folder.name}: {entry['name']} differs from what was written.")
    except (OSError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder.name} is not whole: {_why(error)}") from error
    facts: dict[str, Any] = manifest["facts"]
    return facts


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of a folder that may have been damaged since.

    Raises:
        CheckpointError: it has no manifest.
    """
    facts: dict[str, Any] = _read_manifest(folder)["facts"]
    return facts


def remove_folder(folder: Path) -> None:
    """Delete a folder so that a crash leaves no visible part of it."""
    if not folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.removed.{os.getpid()}")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _why(error: Exception) -> object:
    """What an error says, without where on this machine the file lies."""
    return error.strerror if isinstance(error, OSError) else error


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder.name} is not whole: {_why(error)}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("facts"), dict):
        raise CheckpointError(f"{folder.name} is not whole: its manifest is broken.")
    return manifest


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
