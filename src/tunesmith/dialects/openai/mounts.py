"""Where this dialect is served: on OpenAI's own paths, and below `/nebius` by the other vendor's rules alone."""

from dataclasses import dataclass
from typing import Literal

Flavour = Literal["openai", "nebius"]
"""The vendor by whose rules a request is read or an answer is written."""


@dataclass(frozen=True)
class Mount:
    """One of the places."""

    prefix: str
    flavour: Flavour
    """Under `openai`, a request with any of Nebius's own fields is read by Nebius's rules all the same."""


OPENAI = Mount(prefix="", flavour="openai")
NEBIUS = Mount(prefix="/nebius", flavour="nebius")
MOUNTS = (OPENAI, NEBIUS)


def mount_of(path: str) -> Mount:
    """The place that a path belongs to."""
    return NEBIUS if path.startswith(f"{NEBIUS.prefix}/") else OPENAI
