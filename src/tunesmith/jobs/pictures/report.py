"""What whoever waits for a set of pictures is told."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from tunesmith.spec.frozen import Frozen

Stage = Literal["downloading", "verifying", "transforming", "captioning", "writing", "completed"]


class LeftOut(Frozen):
    """A picture, an archive or a text that is not used, and why."""

    picture: str
    """An address or a name in an archive, without secrets."""

    reason: str

    def sentence(self) -> str:
        """For messages."""
        return f"{self.picture}: {self.reason}"


class Report(Protocol):
    """Told how a preparation goes."""

    def poll(self) -> None:
        """Raises whatever ends the preparation. Called several times a second."""
        ...

    def stage(self, stage: Stage, done: int, total: int) -> None:
        """So many files of a stage are done. Polls."""
        ...

    def note(self, message: str, data: Mapping[str, Any], *, warn: bool = True) -> None:
        """Something the user should know."""
        ...

    def completed(self, message: str, data: Mapping[str, Any]) -> None:
        """The set is written; `data` has `done` and `total`."""
        ...
