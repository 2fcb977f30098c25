"""What the server asks of a process that decodes pictures, and what it answers: one JSON object a line."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tunesmith.data.imaging.likeness import Look
from tunesmith.spec.frozen import Frozen


class Place(Frozen):
    """Where a file lies: on this disk, or as a member of the archive that does."""

    path: Path
    member: str | None = None


class Open(Frozen):
    """What is it: an archive, or a file?"""

    do: Literal["open"] = "open"
    place: Place


class Decode(Frozen):
    """Is it a picture that can be decoded whole?"""

    do: Literal["decode"] = "decode"
    place: Place


class ReadCaption(Frozen):
    """What does this text say?"""

    do: Literal["read_caption"] = "read_caption"
    place: Place


class Transform(Frozen):
    """Take a picture through transforms and write it as PNG."""

    do: Literal["transform"] = "transform"
    place: Place
    transforms: tuple[dict[str, Any], ...]
    seed: str
    """What is drawn at random follows from it."""

    into: Path


Request = Annotated[Open | Decode | ReadCaption | Transform, Field(discriminator="do")]


class Opened(Frozen):
    """Names of an archive's files, sorted; none for a file that is no archive."""

    kind: Literal["opened"] = "opened"
    members: tuple[str, ...] | None


class Decoded(Frozen):
    """A picture can be used."""

    kind: Literal["decoded"] = "decoded"
    pixels: str
    """Digest of size and pixels: equal pictures have equal ones, however they were compressed."""

    look: Look


class Caption(Frozen):
    """What a text says."""

    kind: Literal["caption"] = "caption"
    text: str


class Written(Frozen):
    """A picture was transformed and lies where it was asked for."""

    kind: Literal["written"] = "written"
    width: int
    height: int
    bytes: int
    sha256: str
    too_small: tuple[int, str] | None
    """Place in the list of the filter that leaves it out, and why."""

    looks: dict[int, Look]
    """What it looks like where `dedupe` compares it, by place in the list."""


class Refused(Frozen):
    """It cannot be used."""

    kind: Literal["refused"] = "refused"
    reason: str


Answer = Annotated[Opened | Decoded | Caption | Written | Refused, Field(discriminator="kind")]

REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
