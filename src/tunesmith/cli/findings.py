"""What a check of `tunesmith doctor` found."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How bad it is."""

    PASS = "pass"
    WARN = "warn"
    """It works, with the stated limit."""
    FAIL = "fail"
    """The server or every training would fail."""


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    name: str
    status: Status
    message: str
    hint: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding for scripts."""
        return asdict(self)
