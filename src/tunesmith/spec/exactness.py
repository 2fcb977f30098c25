"""How faithfully an interrupted training goes on, and what that is judged by."""

from collections.abc import Iterator
from typing import Literal

from tunesmith.spec.frozen import Frozen

Exactness = Literal["exact", "approximate", "restarted"]
"""`exact`: with the same spec, data, tokenizer, model, libraries and kind of device, so as if it had not been
interrupted. `approximate`: something of this differs. `restarted`: from the first step, for want of a checkpoint."""


class Fingerprints(Frozen):
    """What the course of a training depends on, apart from the state that a checkpoint holds."""

    spec: str
    """SHA-256 of the job's spec."""

    data: str
    """SHA-256 of the digests of its files."""

    tokenizer: str
    """SHA-256 of the files of tokenizer and chat template."""

    model: str
    """SHA-256 of the configuration, and of the size, the beginning and the end of each file of weights."""

    libraries: dict[str, str]
    """Versions of what computes, by name."""

    device: str
    """A GPU's name; of a processor, its vector instructions and the number of threads."""


class Resume(Frozen):
    """One time that a job went on."""

    at: float
    """Seconds since the epoch."""

    attempt: int
    step: int
    """Steps that were kept: 0 if it was restarted."""

    exactness: Exactness
    differences: tuple[str, ...]
    """What is not as it was, or why no checkpoint can be used; empty if it is exact."""


def differences(before: Fingerprints, now: Fingerprints) -> tuple[str, ...]:
    """What has changed between two attempts with the same spec and data, in words."""
    return tuple(_changes(before, now))


def _changes(before: Fingerprints, now: Fingerprints) -> Iterator[str]:
    for name, what in (("tokenizer", "the tokenizer or its chat template"), ("model", "the base model")):
        if getattr(before, name) != getattr(now, name):
            yield f"{what} has changed"
    for name in sorted({*before.libraries, *now.libraries}):
        old, new = before.libraries.get(name, "none"), now.libraries.get(name, "none")
        if old != new:
            yield f"{name} {new} instead of {old}"
    if before.device != now.device:
        yield f"device {now.device} instead of {before.device}"
