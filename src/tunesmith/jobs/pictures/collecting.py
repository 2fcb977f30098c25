"""Brings the files that addresses of pictures lead to."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from tunesmith.jobs.errands import Errands
from tunesmith.jobs.fetching import Fetcher
from tunesmith.jobs.pictures.report import LeftOut, Report
from tunesmith.spec.errors import (
    DiskFullError,
    FileNotFoundInStoreError,
    InvalidRequestError,
    TooLargeError,
    TunesmithError,
)
from tunesmith.spec.job import DataSource, ImagesSpec
from tunesmith.storage import Storage
from tunesmith.store import files
from tunesmith.store.database import Database

MAX_SOURCES = 10_000
MAX_BYTES = 20 * 2**30
"""Of all files that are fetched for one job."""

PARAM = "data.images.sources"

_AT_ONCE = 8
_POLL_SECONDS = 0.1
_FILE = re.compile(r"file-([0-9a-f]{32})")
_USER = re.compile(r"[^:/?#]+://[^/?#]*@")
_KINDS: dict[str, Literal["http", "s3", "gcs"]] = {"http": "http", "https": "http", "s3": "s3", "gs": "gcs"}
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


class Stopped(Exception):  # noqa: N818 - no error: nobody waits for it any more
    """The preparation was ended while a file was on its way."""


@dataclass(frozen=True)
class Fetched:
    """A file that is here."""

    shown: str
    """Its address without secrets, for messages."""

    location: PurePosixPath
    """Where it lay, so that a text beside it can be found."""

    path: Path


@dataclass(frozen=True)
class _Wanted:
    address: str
    source: DataSource | None
    """None for an uploaded file."""

    is_asked_for: bool = True
    """False for a caption that may lie beside a picture, or not."""


def shown(address: str) -> str:
    """An address for messages and answers: without its query, in which signatures stand."""
    return address.partition("?")[0].partition("#")[0] if "://" in address else address


def check_sources(images: ImagesSpec) -> None:
    """Refuse lists that nothing could be fetched by.

    Raises:
        InvalidRequestError: it is empty or too long, or one is no address that can be fetched, or names a user. No
            message repeats an address, in which secrets may stand.
    """
    if not images.sources:
        raise InvalidRequestError(
            "There are no pictures to train on.", param=PARAM, hint="Name at least one picture or archive of pictures."
        )
    if len(images.sources) > MAX_SOURCES:
        raise InvalidRequestError(
            f"{len(images.sources):,} addresses of pictures are named; up to {MAX_SOURCES:,} are read.",
            param=PARAM,
            hint="Put the pictures into a ZIP archive.",
        )
    for number, address in enumerate(images.sources):
        if not _FILE.fullmatch(address) and address.partition("://")[0].lower() not in _KINDS:
            raise InvalidRequestError(
                f"{PARAM}.{number} is not an address that can be fetched.",
                param=f"{PARAM}.{number}",
                hint="Use https://…, http://…, s3://bucket/key, gs://bucket/key or file-… of an uploaded file.",
            )
        if _USER.match(address):
            raise InvalidRequestError(
                f"{PARAM}.{number} holds a user or a password before its host, which is refused.",
                param=f"{PARAM}.{number}",
                hint="Leave out the part before '@'. Store credentials as a secret; `data.train.secret` names it.",
            )


class Collector:
    """Fetches several files at a time."""

    def __init__(self, database: Database, fetcher: Fetcher, storage: Storage) -> None:
        self._database = database
        self._fetcher = fetcher
        self._storage = storage

    def check_files(self, org: str, images: ImagesSpec) -> None:
        """Look for the uploaded files.

        Raises:
            FileNotFoundInStoreError: the organisation has no such file.
        """
        for number, address in enumerate(images.sources):
            if _FILE.fullmatch(address):
                self._uploaded(org, address, f"{PARAM}.{number}")

    def collect(
        self, org: str, images: ImagesSpec, secret: str | None, folder: Path, report: Report
    ) -> tuple[list[Fetched], list[LeftOut]]:
        """Bring every file into a folder, in the order of the addresses; and what could not be had.

        Raises:
            DiskFullError: the volume has no room.
            TooLargeError: all together have more than `MAX_BYTES`. Whatever `report` raises passes through.
        """
        wanted = [*_asked_for(images, secret), *(_beside(images, secret) if images.captioning == "existing" else ())]
        download = _Download(self._fetcher, org, Storage(folder))
        with Errands(_AT_ONCE) as errands:
            try:
                begun = [errands.submit(self._bring, org, each, download) for each in wanted]
                _follow(begun, report)
            finally:
                download.stop()
        results = [each.result() for each in begun]
        here = [each for each in results if isinstance(each, Fetched)]
        return here, [each for each in results if isinstance(each, LeftOut)]

    def _bring(self, org: str, wanted: _Wanted, download: "_Download") -> Fetched | LeftOut | None:
        """None for a caption that does not lie beside its picture."""
        try:
            if wanted.source is None:
                return self._uploaded(org, wanted.address, PARAM)
            return download.fetch(wanted.address, wanted.source)
        except (DiskFullError, TooLargeError):
            raise
        except TunesmithError as error:
            reason = error.info.sentence().rstrip(".")
            return LeftOut(picture=shown(wanted.address), reason=reason) if wanted.is_asked_for else None

    def _uploaded(self, org: str, address: str, param: str) -> Fetched:
        id = address.removeprefix("file-")
        with self._database.read() as connection:
            file = files.get(connection, id)
        if file is None or file.org != org:
            raise FileNotFoundInStoreError(f"No file has the id {address!r}.", param=param)
        return Fetched(address, PurePosixPath("uploaded", file.filename), self._storage.path(file.sha256))


class _Download:
    """What the fetching of all files has in common."""

    def __init__(self, fetcher: Fetcher, org: str, storage: Storage) -> None:
        self._fetcher = fetcher
        self._org = org
        self._storage = storage
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._bytes = 0

    def fetch(self, address: str, source: DataSource) -> Fetched:
        content = self._storage.writer()
        before = 0

        def count(done: int, _total: int | None) -> None:
            nonlocal before
            if self._stopped.is_set():
                raise Stopped
            self._count(done - before)
            before = done

        if self._stopped.is_set():
            raise Stopped
        try:
            self._fetcher.fetch_now(self._org, source, content, count)
        except BaseException:
            content.discard()
            raise
        return Fetched(shown(address), _location(address), content.path)

    def stop(self) -> None:
        """End what is on its way."""
        self._stopped.set()

    def _count(self, more: int) -> None:
        with self._lock:
            self._bytes += more
            if self._bytes > MAX_BYTES:
                raise TooLargeError(f"The pictures of a job may have {MAX_BYTES // 2**30} GiB in all.", param=PARAM)


def _follow(begun: list["Future[Fetched | LeftOut | None]"], report: Report) -> None:
    """Tell how many have come, until all have or one of them ends everything."""
    left = set(begun)
    while left:
        report.stage("downloading", len(begun) - len(left), len(begun))
        done, left = wait(left, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        for each in done:
            each.result()
    report.stage("downloading", len(begun), len(begun))


def _asked_for(images: ImagesSpec, secret: str | None) -> Iterator[_Wanted]:
    for address in images.sources:
        yield _Wanted(address, None if _FILE.fullmatch(address) else _source(address, secret))


def _beside(images: ImagesSpec, secret: str | None) -> Iterator[_Wanted]:
    """The texts of the same names, but for those that are named themselves."""
    named = {shown(address) for address in images.sources}
    for address in images.sources:
        path, mark, query = address.partition("?")
        if path.lower().endswith(_PICTURES) and not _FILE.fullmatch(address):
            text = f"{path.rpartition('.')[0]}.txt"
            if text not in named:
                yield _Wanted(text + mark + query, _source(text + mark + query, secret), is_asked_for=False)


def _source(address: str, secret: str | None) -> DataSource:
    return DataSource(kind=_KINDS[address.partition("://")[0].lower()], id=address, sha256=None, secret=secret)


def _location(address: str) -> PurePosixPath:
    if address.lower().startswith("http"):
        parts = urlsplit(address)
        return PurePosixPath(parts.netloc, unquote(parts.path).lstrip("/"))
    return PurePosixPath(address.partition("://")[2])
