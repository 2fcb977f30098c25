"""A source whose every address is one GET request."""

from collections.abc import Callable

from tunesmith.sources import Credentials, Found, Limits, Location, Progress
from tunesmith.sources._client import GuardedClient
from tunesmith.sources._download import Remote, download, fetch_answer, look, save
from tunesmith.storage import BlobWriter


class SingleRequestSource:
    """Fetches what `remote` makes of a location."""

    def __init__(self, limits: Limits, remote: Callable[[Location, Credentials | None], Remote]) -> None:
        self._limits = limits
        self._client = GuardedClient(limits)
        self._remote = remote

    def probe(self, location: Location, credentials: Credentials | None) -> Found:
        """See `Source`."""
        return look(self._client, self._remote(location, credentials), self._limits)

    def read(self, location: Location, max_bytes: int) -> bytes:
        """What lies at the location now, whole. Raises as in `Source`, and TooLargeError beyond `max_bytes`."""
        return fetch_answer(self._client, self._remote(location, None), self._limits, max_bytes)

    def fetch(
        self,
        location: Location,
        found: Found,
        credentials: Credentials | None,
        target: BlobWriter,
        progress: Progress,
    ) -> None:
        """See `Source`."""
        pieces = download(self._client, self._remote(location, credentials), found, self._limits)
        save(pieces, target, found.bytes, progress)
