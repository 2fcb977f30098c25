"""Files that arrive in parts. A part lies on disk from the moment it is answered; joining them needs little memory."""

import hashlib
import time
import uuid
from collections.abc import Sequence
from typing import BinaryIO

from sqlalchemy import Connection

from tunesmith.assets.files import Received
from tunesmith.spec.errors import ConflictError, InvalidRequestError, NotFoundError, TooLargeError
from tunesmith.storage import BlobWriter, Storage
from tunesmith.store import uploads
from tunesmith.store.database import Database
from tunesmith.store.files import File
from tunesmith.store.uploads import Part, Status, Upload

MAX_UPLOAD_BYTES = 8 * 1024**3
MAX_PART_BYTES = 64 * 1024**2
LIFETIME_SECONDS = 3600.0
"""An upload that is not completed by then is over."""

_PIECE = 1024 * 1024


class Uploads:
    """The door to an organisation's uploads in parts.

    Parts lie in a storage of their own, so that no file shares its content with one.
    """

    def __init__(self, database: Database, storage: Storage, parts: Storage, org: str) -> None:
        self.parts = parts
        """Where the contents of parts are received."""

        self._database = database
        self._storage = storage
        self._org = org

    def begin(
        self, *, filename: str, purpose: str, mime_type: str, bytes: int, lifetime: float | None = None
    ) -> Upload:
        """Announce a file of so many bytes, to be kept for `lifetime` seconds once it is whole."""
        now = time.time()
        upload = Upload(
            id=uuid.uuid4().hex,
            org=self._org,
            filename=filename,
            purpose=purpose,
            mime_type=mime_type,
            bytes=bytes,
            lifetime=lifetime,
            status="pending",
            file_id=None,
            created_at=now,
            expires_at=now + LIFETIME_SECONDS,
        )
        with self._database.write() as connection:
            uploads.add(connection, upload)
        return upload

    def require_pending(self, id: str) -> Upload:
        """An upload that still takes parts.

        Raises:
            NotFoundError: no such upload.
            ConflictError: it is completed, cancelled or expired.
        """
        with self._database.read() as connection:
            return self._pending(connection, id)

    def add_part(self, id: str, content: BlobWriter) -> Part:
        """Keep a received part. Parts may be more than is needed: `complete` names those that count.

        Raises:
            NotFoundError: no such upload.
            ConflictError: it is completed, cancelled or expired.
            TooLargeError: its parts would have more bytes than any upload may.
            DiskFullError: the volume has no room.
        """
        try:
            with self._database.write() as connection:
                self._pending(connection, id)
                if uploads.bytes_of_parts(connection, id) + content.bytes > MAX_UPLOAD_BYTES:
                    raise TooLargeError(f"The parts have more than {MAX_UPLOAD_BYTES:,} bytes.", param="data")
                blob = content.commit()
                part = Part(
                    id=uuid.uuid4().hex,
                    org=self._org,
                    upload_id=id,
                    bytes=blob.bytes,
                    sha256=blob.sha256,
                    created_at=time.time(),
                )
                uploads.add_part(connection, part)
                return part
        finally:
            content.discard()

    def complete(self, id: str, part_ids: Sequence[str], md5: str | None) -> tuple[Upload, File]:
        """Join parts in the given order to a file. Training data is read through first.

        Raises:
            NotFoundError: no such upload.
            ConflictError: it is completed, cancelled or expired.
            InvalidRequestError: a part is not one of this upload or named twice, or bytes or digest differ from what
                was announced.
            DatasetError: the purpose is training and the content is not rows.
            DiskFullError: the volume has no room.
        """
        with self._database.read() as connection:
            upload = self._pending(connection, id)
            chosen = _in_order(uploads.parts_of(connection, id), part_ids)
        _check_bytes(upload, chosen)
        content = self._storage.writer()
        try:
            _check_digest(self._join(chosen, content), md5)
            content.finish()
            received = Received.inspected(
                content, org=self._org, filename=upload.filename, purpose=upload.purpose, lifetime=upload.lifetime
            )
            with self._database.write() as connection:
                self._pending(connection, id)
                file = received.keep(connection)
                _end(connection, self.parts, id, status="completed", file_id=file.id)
        finally:
            content.discard()
        return upload.model_copy(update={"status": "completed", "file_id": file.id}), file

    def cancel(self, id: str) -> Upload:
        """Give an upload up; its parts go.

        Raises:
            NotFoundError: no such upload.
            ConflictError: it is completed, cancelled or expired.
        """
        with self._database.write() as connection:
            upload = self._pending(connection, id)
            _end(connection, self.parts, id, status="cancelled")
        return upload.model_copy(update={"status": "cancelled"})

    def _pending(self, connection: Connection, id: str) -> Upload:
        upload = uploads.get(connection, self._org, id)
        if upload is None:
            raise NotFoundError(f"No upload has the id {id!r}.", param="upload_id", hint="Begin one first.")
        status = "expired" if upload.status == "pending" and upload.expires_at <= time.time() else upload.status
        if status != "pending":
            raise ConflictError(
                f"The upload is {status}; only a pending one takes parts and can be completed or cancelled.",
                param="upload_id",
                hint="Begin another one.",
            )
        return upload

    def _join(self, parts: Sequence[Part], content: BlobWriter) -> str:
        """Write all parts one behind the other; returns the MD5 digest, which guards against mistakes only."""
        digest = hashlib.md5(usedforsecurity=False)
        for part in parts:
            with self._opened(part) as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
                    content.write(piece)
        return digest.hexdigest()

    def _opened(self, part: Part) -> BinaryIO:
        try:
            return self.parts.path(part.sha256).open("rb")
        except FileNotFoundError:  # another request ended the upload meanwhile
            raise ConflictError("The upload was ended by another request.", param="upload_id") from None


def delete_expired_uploads(connection: Connection, parts: Storage, *, at: float) -> None:
    """End the uploads of all organisations that were not completed in time, and free what their parts take."""
    for upload in uploads.overdue(connection, at):
        _end(connection, parts, upload.id, status="expired")


def _end(connection: Connection, parts: Storage, id: str, *, status: Status, file_id: str | None = None) -> None:
    contents = {part.sha256 for part in uploads.parts_of(connection, id)}
    uploads.remove_parts(connection, id)
    uploads.change(connection, id, status=status, file_id=file_id)
    for sha256 in contents:
        if not uploads.is_part(connection, sha256):
            parts.remove(sha256)


def _in_order(parts: Sequence[Part], ids: Sequence[str]) -> list[Part]:
    left = {part.id: part for part in parts}
    ordered = []
    for index, id in enumerate(ids):
        if id not in left:
            raise InvalidRequestError(
                f"part_ids.{index}: the upload has no part of this id, or it is named twice.",
                param=f"part_ids.{index}",
                hint="Name each part once, by the id that its upload was answered with.",
            )
        ordered.append(left.pop(id))
    return ordered


def _check_bytes(upload: Upload, parts: Sequence[Part]) -> None:
    found = sum(part.bytes for part in parts)
    if found != upload.bytes:
        raise InvalidRequestError(
            f"The named parts have {found:,} bytes, but the upload was announced with {upload.bytes:,}.",
            param="part_ids",
            hint="Name all parts in their order, or begin another upload with the right number of bytes.",
        )


def _check_digest(found: str, announced: str | None) -> None:
    if announced is not None and found != announced.lower():
        raise InvalidRequestError(
            f"The MD5 digest of the named parts is {found}, not {announced}.",
            param="md5",
            hint="Check the order of the parts, or send the damaged one again.",
        )
