"""Produced models on their way to a hub: taken, sent one after the other, and told how far they are."""

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tunesmith.access.hosts import host_of
from tunesmith.access.secrets import Secrets
from tunesmith.jobs.exporting import files_of
from tunesmith.jobs.inputs import InputResolver
from tunesmith.rundir import model_files
from tunesmith.sources.hub.api import check_name
from tunesmith.sources.hub.upload import FileToPush, HubUploads
from tunesmith.spec.errors import (
    ConflictError,
    ErrorInfo,
    InternalError,
    InvalidRequestError,
    ModelNotFoundError,
    PushNotFoundError,
    SecretNotFoundError,
    TunesmithError,
    UnsupportedError,
)
from tunesmith.store import exports, models, pushes
from tunesmith.store.database import Database
from tunesmith.store.exports import Export
from tunesmith.store.models import ProducedModel
from tunesmith.store.pushes import Push, PushFormat

_log = logging.getLogger(__name__)

_TELL_SECONDS = 1.0

# Of an adapter, these name the base by its folder on this server, which is of no use elsewhere.
_NAMING_THE_BASE = ("adapter_config.json", "README.md")


class _Ended(Exception):  # noqa: N818 - no error: the server ends
    pass


class Pushes:
    """The pushes of an organisation's models."""

    def __init__(
        self, database: Database, secrets: Secrets, hub_url: str | None, wake: Callable[[], None], org: str
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._hub_url = hub_url
        self._wake = wake
        self._org = org

    def create(
        self, model_id: str, *, repo: str, private: bool, secret: str, format: PushFormat, export: str | None
    ) -> Push:
        """Take a push of a model's own files, or of an export that is ready.

        Raises:
            ModelNotFoundError: no such model.
            InvalidRequestError: the name is malformed, or the format is not what the model or the export is.
            ConflictError: no export of the format is ready.
            SecretNotFoundError: the organisation has no such token for the hub.
            UnsupportedError: this server knows no hub.
        """
        check_name_of_repo(repo)
        if self._hub_url is None:
            raise UnsupportedError("This server knows no hub.", hint="Have its operator set hub_url.")
        found = self._secrets.find(self._org, secret, param="secret")
        try:  # one for another purpose or host is refused now, not in a minute
            self._secrets.reveal(self._org, found.id, purpose="hub", host=host_of(self._hub_url, param="hub_url"))
        except SecretNotFoundError as error:
            raise SecretNotFoundError(error.message, param="secret", hint=error.hint) from None
        with self._database.write() as connection:
            model = models.get(connection, self._org, model_id)
            if model is None:
                raise ModelNotFoundError(f"No model that a job here produced is called {model_id!r}.", param="model_id")
            chosen = _chosen(exports.of_model(connection, self._org, model_id), model, format, export)
            push = pushes.add(
                connection,
                uuid.uuid4().hex,
                org=self._org,
                model_id=model_id,
                export_id=chosen.id if chosen else None,
                repo=repo,
                private=private,
                secret=found.id,
                format=format,
                at=time.time(),
            )
        self._wake()
        return push

    def listed(self, model_id: str) -> list[Push]:
        """The pushes of a model, newest first.

        Raises:
            ModelNotFoundError: no such model.
        """
        with self._database.read() as connection:
            if models.get(connection, self._org, model_id) is None:
                raise ModelNotFoundError(f"No model that a job here produced is called {model_id!r}.", param="model_id")
            return pushes.of_model(connection, self._org, model_id)

    def get(self, model_id: str, id: str) -> Push:
        """One push.

        Raises:
            PushNotFoundError: the model has no such push.
        """
        with self._database.read() as connection:
            push = pushes.get(connection, self._org, model_id, id)
        if push is None:
            raise PushNotFoundError(
                f"The model {model_id!r} has no push {id!r}.", param="push_id", hint="List its pushes."
            )
        return push


class Pusher:
    """One thread that sends one push after the other. The next server begins anew with one that this one left; what
    the hub has by then is not sent again."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        resolver: InputResolver,
        uploads: HubUploads,
        hub_url: str | None,
        exports_folder: Path,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._resolver = resolver
        self._uploads = uploads
        self._hub_url = hub_url
        self._exports = exports_folder
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def tick(self) -> None:
        """Begin with the next push, if none is on its way."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._database.read() as connection:
            waiting = pushes.unfinished(connection)
        if waiting:
            self._thread = threading.Thread(target=self._carry_out, args=(waiting[0],), name="push", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Break off; the next server goes on."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _carry_out(self, push: Push) -> None:
        try:
            commit = self._send(push)
        except _Ended:
            return
        except TunesmithError as error:
            self._end(push, "failed", error=error.info)
        except Exception as error:  # noqa: BLE001 - a fault of ours must end the push, not the thread alone
            _log.exception("push %s failed", push.id)
            self._end(push, "failed", error=InternalError(f"{type(error).__name__} while pushing.").info)
        else:
            self._end(push, "done", commit=commit)

    def _send(self, push: Push) -> str:
        with self._database.write() as connection:
            pushes.change(connection, push.id, state="running")
            model = models.get(connection, push.org, push.model_id)
            export = exports.get(connection, push.org, push.model_id, push.export_id) if push.export_id else None
        if model is None or (push.export_id is not None and export is None):
            raise ModelNotFoundError("What was to be pushed was deleted meanwhile.")
        host = host_of(self._hub_url, param="hub_url") if self._hub_url else None
        token = self._secrets.reveal(push.org, push.secret, purpose="hub", host=host)["token"]
        told = _Teller(self._database, push, self._stopping)
        files = files_in(files_of(self._exports, export.id)) if export else own_files(self._resolver, model)
        pushed = self._uploads.push(
            files,
            push.repo,
            token,
            private=push.private,
            message=f"Upload {push.format} of {model.id} with Tunesmith",
            progress=told,
        )
        return pushed.commit

    def _end(self, push: Push, state: str, *, commit: str | None = None, error: ErrorInfo | None = None) -> None:
        with self._database.write() as connection:
            pushes.change(
                connection,
                push.id,
                state=state,
                commit=commit,
                error=error.model_dump() if error else None,
                finished_at=time.time(),
            )


class _Teller:
    """Writes down how far a push is, once a second, and ends it with the server."""

    def __init__(self, database: Database, push: Push, stopping: threading.Event) -> None:
        self._database = database
        self._push = push
        self._stopping = stopping
        self._told_at = 0.0

    def __call__(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _Ended
        now = time.monotonic()
        if now - self._told_at > _TELL_SECONDS or done == total:
            self._told_at = now
            with self._database.write() as connection:
                pushes.change(connection, self._push.id, bytes_done=done, bytes_total=total)


def own_files(resolver: InputResolver, model: ProducedModel) -> list[FileToPush]:
    """A model's files as they may go elsewhere: with the base below an adapter by its name."""
    found = files_in(Path(model.path))
    if model.kind == "full":
        return found
    base, _ = resolver.weights(model)
    return [_naming_the_base(file, str(base), model.base) for file in found]


def files_in(folder: Path) -> list[FileToPush]:
    """The files of a produced model or of an export, with the digests of its manifest."""
    return [
        FileToPush(name=name, path=folder / name, size=(folder / name).stat().st_size, sha256=sha256)
        for name, sha256 in sorted(model_files(folder).items())
    ]


def check_name_of_repo(repo: str) -> None:
    """Raises InvalidRequestError unless it reads owner/name."""
    try:
        check_name(repo)
    except InvalidRequestError as error:
        raise InvalidRequestError(error.message, param="repo") from None
    if "/" not in repo:
        raise InvalidRequestError(f"{repo!r} names no owner; it reads owner/name.", param="repo")


def _naming_the_base(file: FileToPush, folder: str, name: str) -> FileToPush:
    if file.name not in _NAMING_THE_BASE:
        return file
    content = file.path.read_bytes().replace(folder.encode(), name.encode())
    return FileToPush(file.name, file.path, len(content), hashlib.sha256(content).hexdigest(), content)


def _chosen(known: list[Export], model: ProducedModel, format: PushFormat, export: str | None) -> Export | None:
    if format in ("adapter", "weights"):
        if export is not None:
            raise InvalidRequestError(
                f"export belongs to the formats 'merged' and 'gguf', not to {format!r}.", param="export"
            )
        wanted = "adapter" if model.kind == "adapter" else "weights"
        if format != wanted:
            raise InvalidRequestError(
                f"The model is of the kind {model.kind!r}: push it as {wanted!r}, or an export of it.", param="format"
            )
        return None
    ready = [each for each in known if each.state == "ready" and each.options.format == format]
    if export is not None:
        ready = [each for each in ready if each.id == export]
    if not ready:
        which = f"The export {export!r}" if export else f"No export as {format!r}"
        raise ConflictError(
            f"{which} is ready.", param="export" if export else "format", hint="Make one first, and wait until it is."
        )
    return ready[0]
