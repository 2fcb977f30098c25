"""Checks of interpreters, libraries and devices."""

import json
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith.cli.findings import Finding, Status
from tunesmith.devices import CPU, Device, discover

_OLDEST_PYTHON = (3, 11)
_SAFE_SQLITE = (3, 51, 3)

# Runs in the worker's interpreter. Each library tells its own failure, so that one answer names them all.
_PROBE = """
import importlib, json, platform
found = {"python": platform.python_version(), "versions": {}, "missing": {}}
for name in ("torch", "transformers", "peft", "safetensors", "tunesmith"):
    try:
        found["versions"][name] = str(importlib.import_module(name).__version__)
    except Exception as error:
        found["missing"][name] = f"{type(error).__name__}: {error}"
if "torch" in found["versions"]:
    import torch
    found["cuda_devices"] = torch.cuda.device_count()
print("\\n" + json.dumps(found))
"""
_PROBE_SECONDS = 120

_INTERPRETER_HINT = "Name another interpreter with TUNESMITH_WORKER_PYTHON, or worker_python in tunesmith.toml."


def python_version() -> Finding:
    """The server's own interpreter."""
    message = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return Finding("python", Status.FAIL, message, "Tunesmith needs Python 3.11 or newer.")
    return Finding("python", Status.PASS, message)


def sqlite_version() -> Finding:
    """The library behind the database."""
    if sqlite3.sqlite_version_info >= _SAFE_SQLITE:
        return Finding("sqlite", Status.PASS, sqlite3.sqlite_version)
    return Finding(
        "sqlite",
        Status.WARN,
        f"{sqlite3.sqlite_version} is older than 3.51.3, before which two processes that write to one database can "
        "corrupt it.",
        "Tunesmith writes from one server process only, which is safe. Let no other program open tunesmith.db.",
    )


def training(worker_python: str, visible_gpus: str | None) -> Iterator[Finding]:
    """The worker's interpreter and the devices that it can use."""
    probed = _probe(worker_python)
    if isinstance(probed, Finding):
        yield probed
        yield _devices(discover(visible_gpus), cuda_devices=None)
        return
    versions = ", ".join(f"{name} {version}" for name, version in probed["versions"].items())
    if probed["missing"]:
        missing = "; ".join(f"{name} ({reason})" for name, reason in probed["missing"].items())
        yield Finding(
            "worker",
            Status.FAIL,
            f"{worker_python} cannot import {missing}.",
            f"Install torch for this machine, then tunesmith[train], into that environment. {_INTERPRETER_HINT}",
        )
    else:
        yield Finding("worker", Status.PASS, f"{worker_python} (Python {probed['python']}) imports {versions}")
    yield _devices(discover(visible_gpus), cuda_devices=probed.get("cuda_devices"))


def _probe(worker_python: str) -> dict[str, Any] | Finding:
    """What the worker's interpreter says about itself."""
    try:
        ended = subprocess.run(
            [worker_python, "-c", _PROBE],
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_PROBE_SECONDS,
        )
        answer: dict[str, Any] = json.loads(ended.stdout.rstrip().rpartition("\n")[2])
    except OSError as error:
        reason = f"does not start: {error.strerror}"
    except subprocess.TimeoutExpired:
        reason = f"needs more than {_PROBE_SECONDS} s to import the training libraries"
    except subprocess.CalledProcessError as error:
        reason = f"ended with {error.returncode}: {error.stderr.strip()[-300:] or 'no output'}"
    except ValueError:
        reason = "gave no answer that can be read"
    else:
        return answer
    return Finding("worker", Status.FAIL, f"{worker_python} {reason}.", _INTERPRETER_HINT)


def _devices(found: Sequence[Device], cuda_devices: int | None) -> Finding:
    names = ", ".join(device.name for device in found)
    if tuple(found) == (CPU,):
        return Finding(
            "devices", Status.WARN, "no NVIDIA GPU; trainings run on the CPU.", "That suits tiny models and trials."
        )
    if cuda_devices == 0:
        return Finding(
            "devices",
            Status.FAIL,
            f"{names}, but torch of the worker's interpreter cannot use a GPU.",
            "Install a CUDA build of torch that fits the driver (`nvidia-smi` shows its version).",
        )
    return Finding("devices", Status.PASS, names)
