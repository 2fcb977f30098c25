"""Adapters that are brought in as models under a name: from a checkpoint, an uploaded archive or the hub."""

import re
import secrets
import shutil
import string
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tunesmith.assets.adapters import MAX_ADAPTER_BYTES, check_adapter, copy_adapter, unpack_adapter
from tunesmith.sources import Progress
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec.errors import DownloadError, InvalidRequestError, ModelNotFoundError, TooLargeError
from tunesmith.spec.frozen import Frozen
from tunesmith.storage import Storage
from tunesmith.store import custom_models, models
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.custom_models import Origin, SourceKind
from tunesmith.store.database import Database
from tunesmith.store.files import File
from tunesmith.store.models import ProducedModel

FETCH_SECONDS = 120.0
"""A request waits for an adapter from the hub no longer than this."""

_MARK = "-LoRa:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LETTERS = string.ascii_letters + string.digits


class Wanted(Frozen):
    """What a model that is brought in is to be called, and what it belongs to."""

    name: str
    base: str
    base_revision: str | None
    """Commit of a base from the hub."""

    description: str | None


class CustomModel(Frozen):
    """A model that was brought in, and where it came from."""

    model: ProducedModel
    origin: Origin


class CustomModels:
    """The door to the models that an organisation brought in. They are produced models like any other: trained from,
    listed and deleted as those are."""

    def __init__(self, database: Database, storage: Storage, hub: HubModels, models_folder: Path, org: str) -> None:
        self._database = database
        self._storage = storage
        self._hub = hub
        self._models = models_folder
        self._org = org

    def check_archive(self, archive: Path) -> None:
        """Refuse an archive that holds no adapter.

        Raises:
            AdapterError: what is wrong with it.
        """
        folder = self._new_folder()
        try:
            unpack_adapter(archive, folder)
            check_adapter(folder)
        finally:
            shutil.rmtree(folder)

    def from_checkpoint(self, wanted: Wanted, checkpoint: Checkpoint) -> CustomModel:
        """A copy of a checkpoint's adapter.

        Raises:
            InvalidRequestError: the name is not allowed.
            AdapterError: the checkpoint holds whole weights.
        """
        source = f"{checkpoint.job_id}:{checkpoint.id}"
        return self._add(wanted, "checkpoint", source, lambda into: copy_adapter(Path(checkpoint.path), into))

    def from_file(self, wanted: Wanted, file: File) -> CustomModel:
        """The adapter in an uploaded archive.

        Raises:
            InvalidRequestError: the name is not allowed.
            AdapterError: the archive holds no adapter.
        """
        archive = self._storage.path(file.sha256)
        return self._add(wanted, "file", file.id, lambda into: unpack_adapter(archive, into))

    def from_hub(self, wanted: Wanted, repository: str) -> CustomModel:
        """The adapter in a public repository, fetched now.

        Raises:
            InvalidRequestError: the name is not allowed.
            TooLargeError: the repository has more bytes than an adapter may.
            DownloadError: it could not be fetched, or not in time.
            AdapterError: it holds no adapter.
            TunesmithError: it is not there.
        """
        found = self._hub.probe(repository, None, None)
        if found.bytes is not None and found.bytes > MAX_ADAPTER_BYTES:
            raise TooLargeError(
                f"{repository!r} has {found.bytes:,} bytes; an adapter may have {MAX_ADAPTER_BYTES:,}.", param="source"
            )
        commit = found.version or ""
        source = f"{repository}@{commit}"

        def fill(into: Path) -> None:
            copy_adapter(self._hub.fetch(repository, commit, None, _in_time(repository)), into)

        return self._add(wanted, "hub", source, fill)

    def listed(self) -> list[CustomModel]:
        """All that were not deleted, newest first."""
        with self._database.read() as connection:
            origins = custom_models.of_org(connection, self._org)
            present = models.newest_first(connection, self._org)
        return [CustomModel(model=model, origin=origins[model.id]) for model in present if model.id in origins]

    def get(self, name: str) -> CustomModel:
        """The one with this id, or the newest with this name.

        Raises:
            ModelNotFoundError: no such model.
        """
        for each in self.listed():
            if name in (each.model.id, each.model.name):
                return each
        raise ModelNotFoundError(f"No custom model is called {name!r}.", param="name", hint="List the custom models.")

    def _add(self, wanted: Wanted, source: SourceKind, source_id: str, fill: Callable[[Path], None]) -> CustomModel:
        if not _NAME.fullmatch(wanted.name):
            raise InvalidRequestError(
                f"name {wanted.name!r} is not allowed.",
                param="name",
                hint="Use 1 to 64 letters, digits and . _ -, beginning with a letter or digit.",
            )
        folder = self._new_folder()
        try:
            fill(folder)
            check_adapter(folder)
            return self._publish(wanted, source, source_id, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _publish(self, wanted: Wanted, source: SourceKind, source_id: str, folder: Path) -> CustomModel:
        ending = "".join(secrets.choice(_LETTERS) for _ in range(4))
        id = f"{wanted.base}{_MARK}{wanted.name}-{ending}"
        with self._database.write() as connection:
            models.add(
                connection,
                id=id,
                org=self._org,
                job_id=None,
                base=wanted.base,
                base_revision=wanted.base_revision,
                kind="adapter",
                path=str(folder),
                name=wanted.name,
                description=wanted.description,
                created_at=time.time(),
            )
            origin = Origin(id=id, org=self._org, source=source, source_id=source_id)
            custom_models.add(connection, origin)
            model = models.get(connection, self._org, id)
        assert model is not None
        return CustomModel(model=model, origin=origin)

    def _new_folder(self) -> Path:
        folder = self._models / uuid.uuid4().hex
        folder.mkdir()
        return folder


def base_in(name: str) -> str:
    """The base in the name of a model that was brought in; any other name as it is."""
    return name.rpartition(_MARK)[0] or name


def _in_time(repository: str) -> Progress:
    """Ends a download that takes too long."""
    deadline = time.monotonic() + FETCH_SECONDS

    def progress(done: int, total: int | None) -> None:
        if time.monotonic() > deadline:
            raise DownloadError(
                f"{repository!r} could not be fetched within {FETCH_SECONDS:g} seconds: {done:,} of {total or 0:,} "
                "bytes had come.",
                param="source",
                hint="Download it yourself, send it as a ZIP archive to /v0/models/upload and name that as the source.",
            )

    return progress
