"""Data sets of the hub: one file, or the shards of the train split as an archive."""

import re
import zipfile
from collections.abc import Iterable
from contextlib import closing
from difflib import get_close_matches
from pathlib import PurePosixPath

from tunesmith.sources import Credentials, Found, Limits, Location, Progress
from tunesmith.sources._credentials import read_credentials
from tunesmith.sources._download import check_size, download, save
from tunesmith.sources.hub.api import HubApi, HubFile, Repository
from tunesmith.spec.errors import InvalidRequestError, SourceNotFoundError
from tunesmith.storage import BlobWriter

_READ = (".jsonl", ".json", ".csv", ".parquet")
_ABOUT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])")
_OTHER_SPLIT = re.compile(r"(?<![a-z])(test|testing|valid|validation|val|dev|eval|evaluation)(?![a-z])")
_NUMBERED = re.compile(r"\d-of-\d+\.")
_MOST_NAMED = 10
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # of the ZIP format; the same shards make the same archive


class HubDatasets:
    """The source of `owner/name` and `owner/name/path/to/file`."""

    def __init__(self, limits: Limits, endpoint: str | None) -> None:
        self._limits = limits
        self._api = HubApi(limits, endpoint)

    def probe(self, location: Location, credentials: Credentials | None) -> Found:
        """See `Source`. The version is the commit."""
        repository, files = self._choose(location, location.revision, credentials)
        return Found(bytes=sum(file.bytes for file in files), version=repository.commit)

    def fetch(
        self,
        location: Location,
        found: Found,
        credentials: Credentials | None,
        target: BlobWriter,
        progress: Progress,
    ) -> None:
        """See `Source`. Several shards become a ZIP archive without compression, in the order of their names."""
        repository, files = self._choose(location, found.version, credentials)
        token = _token(credentials)
        if len(files) == 1:
            remote, expected = self._api.remote(repository, files[0], token)
            save(download(self._api.client, remote, expected, self._limits), target, expected.bytes, progress)
        else:
            self._fetch_archive(repository, files, token, target, progress)

    def _choose(
        self, location: Location, revision: str | None, credentials: Credentials | None
    ) -> tuple[Repository, tuple[HubFile, ...]]:
        name, path = _read_address(location.address)
        repository = self._api.look("dataset", name, revision, _token(credentials))
        files = (_named(repository, path),) if path else _train_split(repository)
        check_size(sum(file.bytes for file in files), self._limits, location.address)
        return repository, files

    def _fetch_archive(
        self,
        repository: Repository,
        files: Iterable[HubFile],
        token: str | None,
        target: BlobWriter,
        progress: Progress,
    ) -> None:
        total = sum(file.bytes for file in files)
        done = 0
        with zipfile.ZipFile(_Appending(target), "w") as archive:  # type: ignore[call-overload]  # writes only
            for file in files:
                remote, expected = self._api.remote(repository, file, token)
                entry = zipfile.ZipInfo(PurePosixPath(file.path).name, date_time=_FIRST_DATE)
                entry.file_size = file.bytes
                pieces = download(self._api.client, remote, expected, self._limits)
                with archive.open(entry, "w") as shard, closing(pieces):
                    for piece in pieces:
                        shard.write(piece)
                        done += len(piece)
                        progress(done, total)


class _Appending:
    """A blob as a file that cannot be sought in."""

    def __init__(self, target: BlobWriter) -> None:
        self._target = target

    def write(self, piece: bytes) -> int:
        self._target.write(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing to do: `BlobWriter.finish` does it."""


def _token(credentials: Credentials | None) -> str | None:
    read_credentials(credentials, required=("token",))
    return credentials["token"] if credentials else None


def _read_address(address: str) -> tuple[str, str]:
    """Name of the repository, and path of the file or nothing."""
    scheme, separator, _ = address.partition("://")
    if separator:  # the rest is not repeated: a password or a signature may stand there
        raise InvalidRequestError(
            f"Nothing is fetched from {scheme[:20] + separator!r}; addresses begin with https://, http://, s3:// or "
            "gs://, or read owner/name on the hub."
        )
    parts = address.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidRequestError(
            f"The address {address[:100]!r} is not understood; it reads owner/name or owner/name/path/to/file."
        )
    return "/".join(parts[:2]), "/".join(parts[2:])


def _named(repository: Repository, path: str) -> HubFile:
    files = {file.path: file for file in repository.files}
    if path not in files:
        near = get_close_matches(path, files, n=3) or sorted(name for name in files if name.startswith(f"{path}/"))
        raise SourceNotFoundError(
            f"The data set {repository.name!r} has no file {path!r}.",
            hint=f"Did you mean {_listed(near)}?" if near else None,
        )
    return files[path]


def _train_split(repository: Repository) -> tuple[HubFile, ...]:
    """The file or shards of the train split.

    Raises:
        InvalidRequestError: there is nothing to read, or more than one thing that could be meant.
    """
    readable = [
        file
        for file in repository.files
        if file.path.endswith(_READ) and PurePosixPath(file.path).name not in _ABOUT_DATA
    ]
    chosen = [file for file in readable if _TRAIN.search(file.path.lower())] or [
        file for file in readable if not _OTHER_SPLIT.search(file.path.lower())
    ]
    chosen.sort(key=lambda file: file.path)
    if not chosen:
        raise InvalidRequestError(
            f"The data set {repository.name!r} has no train split in a format that is read here ({', '.join(_READ)}).",
            hint=f"Name a file: {_listed([file.path for file in readable])}." if readable else None,
        )
    if len(chosen) > 1 and not _are_shards([PurePosixPath(file.path) for file in chosen]):
        raise InvalidRequestError(
            f"The data set {repository.name!r} has more than one file that could be meant.",
            hint=f"Name one of them, as in {repository.name}/{chosen[0].path}:"
            f" {_listed([file.path for file in chosen])}.",
        )
    return tuple(chosen)


def _are_shards(paths: list[PurePosixPath]) -> bool:
    """Whether files are parts of one: beside each other, of one format, and numbered unless they are Parquet."""
    kinds = {(path.parent, path.suffix) for path in paths}
    return len(kinds) == 1 and all(path.suffix == ".parquet" or _NUMBERED.search(path.name) for path in paths)


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return ", ".join(paths[:_MOST_NAMED]) + more
