"""One way to fetch a content over HTTP: pinned to a version, resumed after a reset, checked at the end."""

import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

import httpx2

from tunesmith.sources import Found, Limits, Progress
from tunesmith.sources._client import GuardedClient, read_body
from tunesmith.sources._digests import Digest, declared
from tunesmith.sources._guard import UnknownHostError
from tunesmith.spec.errors import DownloadError, TooLargeError, TunesmithError, UnsupportedError
from tunesmith.storage import BlobWriter

_TRIES_TO_LOOK = 3  # somebody waits for the answer
_TRIES_TO_DOWNLOAD = 6
_LONGEST_PAUSE_SECONDS = 16.0
_LONGEST_EXPLANATION_BYTES = 64 * 1024
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Remote:
    """Something that a GET request yields."""

    label: str
    """What messages call it; the address as the user wrote it, without secrets."""

    url: Callable[[], str] = field(repr=False)
    """Its URL, made anew for each request: signed ones expire."""

    refusal: Callable[[httpx2.Response], TunesmithError]
    """What a response means that is neither the content nor worth another try."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    follow: bool = True
    """Whether redirects are followed."""

    other_types: tuple[str, ...] = ()
    """Media types that are never the content, such as a log-in page's."""

    digest: Digest | None = None
    """What it must hash to, if that is known beforehand. It pins the content then, in the place of a version."""


class _TryAgainError(Exception):
    """A response that another request may better."""


def look(client: GuardedClient, remote: Remote, limits: Limits) -> Found:
    """What a GET request would yield, without reading it.

    Raises:
        TooLargeError: more than `limits.max_bytes`.
        DownloadError: no answer within `limits.probe_seconds`, in spite of several tries.
        TunesmithError: the remote's refusal, or an address that is not allowed.
    """
    found = _tried(client, remote, limits, lambda head: Found(bytes=_length(head), version=_version(head)))
    check_size(found.bytes, limits, remote.label)
    return found


def fetch_answer(client: GuardedClient, remote: Remote, limits: Limits, max_bytes: int) -> bytes:
    """A small content, whole. Raises like `look`, and TooLargeError beyond `max_bytes`."""
    return _tried(client, remote, limits, lambda response: read_body(response, max_bytes))


def download(client: GuardedClient, remote: Remote, found: Found, limits: Limits) -> Generator[bytes]:
    """The content, piece by piece; an empty piece is a sign of life during a pause.

    Raises, while it is read:
        TooLargeError: more than `limits.max_bytes`.
        DownloadError: it is not what `look` found, ends early, stays away, or is damaged.
        TunesmithError: the remote's refusal, or an address that is not allowed.
    """
    tries = _Tries(remote, limits, _TRIES_TO_DOWNLOAD, limits.total_seconds)
    transfer = _Transfer(client, remote, found)
    while True:
        before = transfer.done
        try:
            with closing(transfer.pieces(tries.seconds_left())) as pieces:
                for piece in pieces:
                    check_size(transfer.done, limits, remote.label)
                    yield piece
        except (httpx2.TransportError, _TryAgainError) as error:
            if transfer.done > before:
                tries.begin_again()
            if transfer.done and not transfer.is_resumable:
                raise DownloadError(
                    f"The transfer of {remote.label!r} broke off after {transfer.done:,} bytes, and the other side"
                    " names no version by which to resume it.",
                ) from error
            for seconds in tries.pauses(error):
                threading.Event().wait(seconds)
                yield b""
        else:
            transfer.check_whole()
            return


def save(pieces: Generator[bytes], target: BlobWriter, total: int | None, progress: Progress) -> None:
    """Write pieces to a blob and report each. Raises whatever reading, writing and reporting raise."""
    with closing(pieces):
        for piece in pieces:
            target.write(piece)
            progress(target.bytes, total)


def explanation(response: httpx2.Response) -> str:
    """The beginning of the body of a refusal, as text."""
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) >= _LONGEST_EXPLANATION_BYTES:
            break
    return body[:_LONGEST_EXPLANATION_BYTES].decode("utf-8", "replace")


def check_size(size: int | None, limits: Limits, label: str) -> None:
    """Raises TooLargeError beyond `limits.max_bytes`."""
    if size is not None and size > limits.max_bytes:
        raise TooLargeError(f"{label!r} has more than {limits.max_bytes:,} bytes, the limit of this server.")


def _tried(client: GuardedClient, remote: Remote, limits: Limits, read: Callable[[httpx2.Response], _Read]) -> _Read:
    """What is read from the first good response."""
    tries = _Tries(remote, limits, _TRIES_TO_LOOK, limits.probe_seconds)
    while True:
        try:
            with client.stream(
                "GET", remote.url(), headers=remote.headers, follow=remote.follow, seconds=tries.seconds_left()
            ) as response:
                _check_status(response, remote, (200,))
                return read(response)
        except (httpx2.TransportError, _TryAgainError) as error:
            for seconds in tries.pauses(error):
                threading.Event().wait(seconds)


class _Tries:
    """How often and how long something is tried."""

    def __init__(self, remote: Remote, limits: Limits, most: int, seconds: float) -> None:
        self._label = remote.label
        self._most = most
        self._first_pause = limits.retry_seconds
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._fruitless = 0

    def seconds_left(self) -> float:
        """Until the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DownloadError(
                f"{self._label!r} was not there within {self._seconds:,.0f} s, the limit of this server.",
                hint="Try again, or bring it nearer to this server.",
            )
        return left

    def begin_again(self) -> None:
        """The last try got something."""
        self._fruitless = 0

    def pauses(self, error: Exception) -> Iterator[float]:
        """The pause before the next try, in parts of at most a second.

        Raises:
            DownloadError: there is no next try.
        """
        self.seconds_left()
        self._fruitless += 1
        if self._fruitless == self._most:
            raise DownloadError(
                f"{self._label!r} could not be had: {_reason(error)}, {self._fruitless} times in a row.",
                hint="Check that the address is right and its server is up, then try again.",
            ) from error
        pause = min(self._first_pause * 2 ** (self._fruitless - 1), _LONGEST_PAUSE_SECONDS)
        while pause > 0:
            yield min(pause, 1)
            pause -= 1


class _Transfer:
    """One content on its way, over as many responses as it takes."""

    def __init__(self, client: GuardedClient, remote: Remote, found: Found) -> None:
        self.done = 0
        self._client = client
        self._remote = remote
        self._found = found
        self._digest = remote.digest
        self._hash = self._digest.begin(found.bytes) if self._digest else None

    @property
    def is_resumable(self) -> bool:
        """Whether a later response surely belongs to the same bytes."""
        return self._remote.digest is not None or _is_strong(self._found.version)

    def pieces(self, seconds: float) -> Generator[bytes]:
        """Go on where the last response broke off."""
        headers = dict(self._remote.headers)
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
            if _is_strong(self._found.version):
                headers["If-Match"] = self._found.version
        with self._client.stream(
            "GET", self._remote.url(), headers=headers, follow=self._remote.follow, seconds=seconds
        ) as response:
            skip = self._begin(response)
            for piece in response.iter_raw():
                fresh = piece[skip:]
                skip = max(0, skip - len(piece))
                self.done += len(fresh)
                if self._hash is not None:
                    self._hash.update(fresh)
                yield fresh

    def check_whole(self) -> None:
        """Raises DownloadError unless all of it came, undamaged."""
        if self._found.bytes not in (None, self.done):
            raise DownloadError(f"{self._remote.label!r} ended after {self.done:,} of {self._found.bytes:,} bytes.")
        if self._digest is not None and self._hash is not None and self._hash.hexdigest() != self._digest.hex:
            raise DownloadError(
                f"{self._remote.label!r} arrived damaged: its {self._digest.kind} digest is not the one that the other"
                " side tells.",
                hint="Try again.",
            )

    def _begin(self, response: httpx2.Response) -> int:
        """Check the head of a response; returns how many bytes at its beginning are known already."""
        if response.status_code in (412, 416):
            raise self._changed()
        _check_status(response, self._remote, (200, 206) if self.done else (200,))
        length = _length(response)
        if self._remote.digest is None and _version(response) != self._found.version:
            raise self._changed()
        if self._hash is None and self.done == 0:
            self._digest = declared(response)
            self._hash = self._digest.begin(length) if self._digest else None
        if response.status_code == 206:
            if not response.headers.get("content-range", "").startswith(f"bytes {self.done}-"):
                raise DownloadError(f"{self._remote.label!r}: the other side sent another part than the one asked for.")
            return 0
        if self._found.bytes is not None and length != self._found.bytes:
            raise self._changed()
        return self.done

    def _changed(self) -> DownloadError:
        return DownloadError(
            f"{self._remote.label!r} was changed after this server had looked at it.",
            hint="Ask again, to use what is there now.",
        )


def _check_status(response: httpx2.Response, remote: Remote, good: tuple[int, ...]) -> None:
    if response.status_code in _TRY_AGAIN:
        raise _TryAgainError(f"status {response.status_code}")
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status_code not in good or media_type in remote.other_types:
        raise remote.refusal(response)
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise UnsupportedError(
            f"{remote.label!r} comes compressed (Content-Encoding: {encoding[:20]!r}), which was not asked for.",
            hint="Store it without a content encoding.",
        )
    if "content-length" not in response.headers and "transfer-encoding" not in response.headers:
        raise UnsupportedError(
            f"{remote.label!r} comes without a length, so that nobody could tell whether it is whole."
        )


def _length(response: httpx2.Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _version(response: httpx2.Response) -> str:
    return str(response.headers.get("etag") or response.headers.get("last-modified") or "")


def _is_strong(version: str) -> bool:
    """Whether equal versions mean equal bytes: an ETag that is not weak."""
    return version.startswith('"')


def _reason(error: Exception) -> str:
    """What went wrong, without the texts of libraries and operating systems, which name addresses."""
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    if isinstance(error, UnknownHostError):
        return "its host was not found"
    if isinstance(error, httpx2.ConnectError):
        return "no connection"
    return str(error) if isinstance(error, _TryAgainError) else "the connection broke off"
