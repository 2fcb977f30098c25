"""Ids as OpenAI's clients see them: a prefix and our own 32 hexadecimal digits."""

import re
import uuid

from tunesmith.spec.errors import (
    FileNotFoundInStoreError,
    InvalidRequestError,
    JobNotFoundError,
    NotFoundError,
    WebhookNotFoundError,
)

_HEX = re.compile(r"[0-9a-f]{32}")


def job_id(wire: str, *, param: str = "fine_tune_id") -> str:
    """Our id of a job.

    Raises:
        JobNotFoundError: it is not of the form `ftjob-…`.
    """
    id = _after("ftjob-", wire)
    if id is None:
        raise JobNotFoundError(f"Could not find fine tune: {wire}.", param=param)
    return id


def file_id(wire: str, *, param: str = "file_id") -> str:
    """Our id of a file.

    Raises:
        FileNotFoundInStoreError: it is not of the form `file-…`.
    """
    id = _after("file-", wire)
    if id is None:
        raise FileNotFoundInStoreError(
            f"No file has the id {wire!r}.", param=param, hint="List the files to see the ids, or upload it again."
        )
    return id


def upload_id(wire: str) -> str:
    """Our id of an upload in parts.

    Raises:
        NotFoundError: it is not of the form `upload_…`.
    """
    id = _after("upload_", wire)
    if id is None:
        raise NotFoundError(f"No upload has the id {wire!r}.", param="upload_id", hint="Begin one first.")
    return id


def part_id(wire: str) -> str:
    """Our id of a part; any text, as an unknown one is answered by the upload."""
    return wire.removeprefix("part_")


def permission_id(wire: str, *, param: str = "permission_id") -> str:
    """Our id of a checkpoint's permission.

    Raises:
        NotFoundError: it is not of the form `cp_…`.
    """
    id = _after("cp_", wire)
    if id is None:
        raise NotFoundError(f"No permission has the id {wire!r}.", param=param, hint="List the permissions.")
    return id


def webhook_id(wire: str, *, param: str = "webhook_endpoint_id") -> str:
    """Our id of a webhook.

    Raises:
        WebhookNotFoundError: it is not of the form `whe_…`.
    """
    id = _after("whe_", wire)
    if id is None:
        raise WebhookNotFoundError(
            f"No webhook endpoint has the id {wire[:100]!r}.", param=param, hint="List the endpoints to see their ids."
        )
    return id


def render_webhook_id(id: str) -> str:
    """As clients see it."""
    return f"whe_{id}"


def event_id(wire: str) -> str:
    """Our id of an event.

    Raises:
        InvalidRequestError: it is not of the form `ftevent-…`.
    """
    if not wire.startswith("ftevent-"):
        raise InvalidRequestError(f"after: {wire!r} is not the id of an event.", param="after")
    return wire.removeprefix("ftevent-")


def checkpoint_id(wire: str) -> str:
    """Our id of a checkpoint; any text, as an unknown one is answered by the job."""
    return wire.removeprefix("ftckpt_").replace("-", "")


def render_checkpoint_id(id: str) -> str:
    """As Nebius writes them: with the dashes of a UUID."""
    return f"ftckpt_{uuid.UUID(id)}"


def _after(prefix: str, wire: str) -> str | None:
    id = wire.removeprefix(prefix)
    return id if wire.startswith(prefix) and _HEX.fullmatch(id) else None
