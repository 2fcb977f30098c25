"""Checks of the base models."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tunesmith.assets.models import BaseModels
from tunesmith.cli.findings import Finding, Status
from tunesmith.spec.errors import TunesmithError

_HOW_TO_NAME = "Name folders of models with TUNESMITH_MODEL_ROOTS, or single ones in [model_aliases] of tunesmith.toml."


def models(aliases: Mapping[str, Path], roots: tuple[Path, ...]) -> Iterator[Finding]:
    """Whether each alias and each model below the roots can be loaded from safetensors and JSON."""
    for root in roots:
        if not root.is_dir():
            yield Finding("models", Status.FAIL, f"model root {root} is not a folder.", _HOW_TO_NAME)
    known = BaseModels(aliases, roots)
    faults = 0
    listed = known.listed()
    for model in listed:
        fault = _fault(known, model.name)
        if fault is not None:
            faults += 1
            # A job can name an alias only because somebody wrote it down; a root may hold other things too.
            yield Finding("models", Status.FAIL if model.name in aliases else Status.WARN, *fault)
    if not listed:
        yield Finding("models", Status.WARN, "no base model: no job can be created yet.", _HOW_TO_NAME)
    elif faults < len(listed):
        usable = len(listed) - faults
        yield Finding("models", Status.PASS, f"{usable} usable base model{'' if usable == 1 else 's'}")


def _fault(known: BaseModels, name: str) -> tuple[str, str | None] | None:
    try:
        known.find(name)
    except TunesmithError as error:
        return error.message, error.hint
    return None
