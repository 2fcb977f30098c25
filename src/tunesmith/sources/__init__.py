"""Sources bring remote data to this machine before a worker starts. One module or folder a kind; its name is the key.

A source offers `create(limits: Limits, hub_endpoint: str | None) -> Source`. All are made alike, so that whoever makes
them need not know one from another; those that ask no hub leave its address unread. Every connection of every source
goes through `_client.GuardedClient`, which reaches public addresses and the operator's networks only. `hub.models`
brings models in the same way. `docs/sources.md` tells users what they may name.
"""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, Protocol

from pydantic import Field

from tunesmith.spec.frozen import Frozen
from tunesmith.storage import BlobWriter

Credentials = Mapping[str, str]
"""Decrypted fields of a secret. They stand in no message, and no value that is logged or stored holds them."""

Progress = Callable[[int, int | None], None]
"""Told the bytes received and the bytes to come in all, if known. What it raises ends the transfer."""


class Limits(Frozen):
    """What an outbound transfer may do."""

    max_bytes: int = Field(ge=1)
    """Largest content, all files of it together."""

    idle_seconds: float = Field(default=30, gt=0)
    """Longest silence of the other side, and longest time to connect."""

    total_seconds: float = Field(default=6 * 3600, gt=0)
    """Longest time of one file, pauses and new tries included."""

    probe_seconds: float = Field(default=30, gt=0)
    """Longest time of one look, pauses and new tries included: a request of somebody waits for it."""

    retry_seconds: float = Field(default=1, gt=0)
    """Pause before the first new try; each further one doubles it."""

    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that are no public ones and may be reached all the same."""


class Location(Frozen):
    """Where a content lies."""

    kind: Literal["s3", "gcs", "http", "hub"]

    address: str
    """`s3://bucket/key`, `gs://bucket/key`, a URL, or `owner/name[/path/to/file]` on the hub."""

    region: str | None = None
    """Region of an S3 bucket; none = us-east-1."""

    revision: str | None = None
    """Branch, tag or commit on the hub; none = main."""


class Found(Frozen):
    """What exactly will be fetched."""

    bytes: int | None
    """None if the other side does not tell before the end."""

    version: str
    """ETag, time of the last change, or commit hash; empty if an HTTP server names none."""


class Source(Protocol):
    """Looks at remote contents and fetches them.

    Both methods raise:
        InvalidRequestError: the address, or what lies there, is not what this source reads.
        AddressRefusedError: the address leads to where no request of this server may go.
        SourceNotFoundError: nothing lies there.
        SourceCredentialsError: the credentials are refused, or there are none where some are needed.
        TooLargeError: it has more than `limits.max_bytes`.
        DownloadError: it could not be had now.
    """

    def probe(self, location: Location, credentials: Credentials | None) -> Found:
        """What lies at the location now."""
        ...

    def fetch(
        self,
        location: Location,
        found: Found,
        credentials: Credentials | None,
        target: BlobWriter,
        progress: Progress,
    ) -> None:
        """Write what `probe` found, and nothing else, into `target`; the caller commits or discards it.

        Raises, beside the above:
            DownloadError: the content changed since `probe`.
            DiskFullError: the volume has no room.
            Exception: whatever `progress` raised.
        """
        ...
