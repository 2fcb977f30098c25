"""Models and adapters of the hub, in a cache whose folders are whole or absent."""

import fcntl
import os
import re
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tunesmith.sources import Found, Limits, Progress
from tunesmith.sources._download import check_size, download
from tunesmith.sources.hub.api import HubApi, HubFile, Repository, check_name, is_commit
from tunesmith.spec.errors import DiskFullError, InvalidRequestError, ModelLoadError
from tunesmith.storage import naming_full_disk

_READ = (".safetensors", ".json", ".txt", ".model", ".jinja")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_LOADED_WEIGHTS = ("model", "adapter_model")
# Files that lie elsewhere belong to other programs. A name is no path: it comes from the other side.
_NAME = re.compile(r"(additional_chat_templates/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_PIPELINE = "model_index.json"
# In diffusers' layout, parts are folders. Weights beside them, and those of other number formats, are the same again.
_PART = re.compile(r"[a-z][a-z0-9_]{0,60}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_PART_WEIGHTS = re.compile(r".*/(model|diffusion_pytorch_model)(-\d{5}-of-\d{5})?\.safetensors")
_PIECE = 1024 * 1024
_WAIT_SECONDS = 0.5


class HubModels:
    """A cache of models, laid out as the hub's own: `models--owner--name/snapshots/<commit>/`.

    A folder is renamed into place when all its files are there and their digests are right. What a broken-off download
    leaves behind lies below `incoming/`, where the next one goes on from the files that are whole, until `tidy` comes.
    """

    def __init__(self, cache: Path, endpoint: str | None, limits: Limits) -> None:
        self.endpoint = endpoint
        self._cache = cache
        self._limits = limits
        self._api = HubApi(limits, endpoint)

    def probe(self, repository: str, revision: str | None, token: str | None) -> Found:
        """The bytes to download and the commit of a branch, tag or commit (none = main).

        Raises:
            ModelLoadError: there are no weights that can be loaded safely, or no description of them.
            TunesmithError: as `HubApi.look`.
        """
        found = self._api.look("model", repository, revision, token)
        return Found(bytes=self._size(found, _wanted(found)), version=found.commit)

    def fetch(self, repository: str, commit: str, token: str | None, progress: Progress) -> Path:
        """Bring a commit into the cache, if it is not there; returns its folder.

        Raises:
            DiskFullError: the volume has no room.
            TunesmithError: as `probe`, and DownloadError if a file could not be had or is damaged. Whatever `progress`
                raises passes through.
        """
        if not is_commit(commit):
            raise InvalidRequestError(f"{commit[:100]!r} is no full name of a commit.")
        here = self.find(repository, commit)
        if here is not None:
            return here
        found = self._api.look("model", repository, commit, token)
        files = _wanted(found)
        total = self._size(found, files)
        self._check_room(repository, total)
        with naming_full_disk(self._cache), self._alone(repository, commit, total, progress) as incoming:
            here = self.find(repository, commit)
            if here is not None:
                return here
            self._bring(found, files, token, incoming, progress)
            return self._publish(incoming, repository, commit)

    def find(self, repository: str, commit: str | None) -> Path | None:
        """The folder of a commit, if it is in the cache. Asks nobody."""
        if commit is None or not is_commit(commit):
            return None
        try:
            check_name(repository)
        except InvalidRequestError:
            return None
        folder = self._folder(repository, commit)
        return folder if folder.is_dir() else None

    def tidy(self, older_than_seconds: float) -> None:
        """Remove what downloads left below `incoming/` that nothing was written to for so long.

        Safe at any moment: a download that runs holds its lock, and is passed over.
        """
        below = self._incoming
        for name in {path.name.removesuffix(".lock") for path in below.iterdir()} if below.is_dir() else ():
            lock, folder = below / f"{name}.lock", below / name
            with _held(lock) as is_ours:
                if is_ours and time.time() - _last_written(lock, folder) >= older_than_seconds:
                    shutil.rmtree(folder, ignore_errors=True)
                    lock.unlink()

    @property
    def _incoming(self) -> Path:
        return self._cache / "incoming"

    def _folder(self, repository: str, commit: str) -> Path:
        return self._cache / _folder_name(repository) / "snapshots" / commit

    def _size(self, repository: Repository, files: tuple[HubFile, ...]) -> int:
        size = sum(file.bytes for file in files)
        check_size(size, self._limits, repository.name)
        return size

    def _check_room(self, repository: str, total: int) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._cache).free
        if total > free:
            raise DiskFullError(
                f"The model {repository!r} has {total:,} bytes, and {free:,} are left on the volume of"
                f" {str(self._cache)!r}.",
                hint="Free some space and try again.",
            )

    @contextmanager
    def _alone(self, repository: str, commit: str, total: int, progress: Progress) -> Iterator[Path]:
        """The folder where a commit is put together, for one at a time: another download of it is waited for."""
        name = f"{_folder_name(repository)}--{commit}"
        self._incoming.mkdir(parents=True, exist_ok=True)
        while True:
            with _held(self._incoming / f"{name}.lock") as is_ours:
                if is_ours:
                    yield self._incoming / name
                    return
            progress(0, total)
            threading.Event().wait(_WAIT_SECONDS)

    def _bring(
        self, found: Repository, files: tuple[HubFile, ...], token: str | None, incoming: Path, progress: Progress
    ) -> None:
        total = sum(file.bytes for file in files)
        done = 0
        for file in files:
            path = incoming / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if not _is_whole(path, file):
                with closing(self._pieces(found, file, token, path)) as sizes:
                    for size in sizes:
                        progress(done + size, total)
            done += file.bytes
            progress(done, total)

    def _pieces(self, found: Repository, file: HubFile, token: str | None, path: Path) -> Generator[int]:
        """Download a file; tells the bytes so far. It gets its name when its digest is right."""
        remote, expected = self._api.remote(found, file, token)
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as target, closing(download(self._api.client, remote, expected, self._limits)) as pieces:
            for piece in pieces:
                target.write(piece)
                yield target.tell()
            target.flush()
            os.fsync(target.fileno())
        part.replace(path)

    def _publish(self, incoming: Path, repository: str, commit: str) -> Path:
        folder = self._folder(repository, commit)
        for left_over in incoming.rglob("*.part"):
            left_over.unlink()
        folder.parent.mkdir(parents=True, exist_ok=True)
        incoming.rename(folder)
        return folder


def _folder_name(repository: str) -> str:
    return f"models--{repository.replace('/', '--')}"


def _wanted(repository: Repository) -> tuple[HubFile, ...]:
    """The files that loading a model or an adapter needs.

    Raises:
        ModelLoadError: weights in a safe format, or what describes them, are missing.
    """
    if any(file.path == _PIPELINE for file in repository.files):
        return _wanted_parts(repository)
    files = [file for file in repository.files if _NAME.fullmatch(file.path) and file.path.endswith(_READ)]
    weights = [file for file in files if file.path.endswith(".safetensors")]
    if not weights:
        raise _no_safetensors(repository)
    if not any(file.path in ("config.json", "adapter_config.json") for file in files):
        raise ModelLoadError(f"The model {repository.name!r} has neither a config.json nor an adapter_config.json.")
    # Some repositories hold the same weights once more, in one file that nothing here loads.
    loaded = [file for file in weights if file.path.startswith(_LOADED_WEIGHTS)] or weights
    return tuple(file for file in files if file not in weights or file in loaded)


def _wanted_parts(repository: Repository) -> tuple[HubFile, ...]:
    """The files of a model in diffusers' layout.

    Raises:
        ModelLoadError: no part has weights in a safe format.
    """
    parts = [file for file in repository.files if _PART.fullmatch(file.path) and file.path.endswith(_READ)]
    weights = [file for file in parts if _PART_WEIGHTS.fullmatch(file.path)]
    if not weights:
        raise _no_safetensors(repository)
    index = next(file for file in repository.files if file.path == _PIPELINE)
    return (index, *(file for file in parts if file in weights or not file.path.endswith(".safetensors")))


def _no_safetensors(repository: Repository) -> ModelLoadError:
    pickles = [file.path for file in repository.files if file.path.endswith(_PICKLES)]
    return ModelLoadError(
        f"The model {repository.name!r} has no weights in safetensors format"
        f"{f', only {pickles[0]!r}, whose loading may run any code' if pickles else ''}.",
        hint="Choose a repository, or a revision, with safetensors files.",
    )


def _is_whole(path: Path, file: HubFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    digest = file.digest.begin(file.bytes)
    with path.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest() == file.digest.hex


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a lock, a file, if nobody else does; tells whether it is held now."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield _lies_at(lock.fileno(), path)


def _lies_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name: `tidy` may have removed it between opening and locking."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _last_written(lock: Path, folder: Path) -> float:
    """Seconds since 1970."""
    return max(path.stat().st_mtime for path in (lock, *([folder, *folder.rglob("*")] if folder.is_dir() else [])))
