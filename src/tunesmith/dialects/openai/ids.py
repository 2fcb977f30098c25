"""Ids as OpenAI's clients see them: a prefix and our own 32 hexadecimal digits."""

import re
import uuid

from tunesmith.spec.errors import FileNotFoundInStoreError, InvalidRequestError, JobNotFoundError

_HEX = re.compile(r"[0-9a-f]{32}")


def job_id(wire: str, *, param: str = "fine_tune_id") -> str:
    """Our id of a job.

    Raises:
        JobNotFoundError: it is not of the form `ftjob-…`.
    """
    id = wire.removeprefix("ftjob-")
    if not wire.startswith("ftjob-") or not _HEX.fullmatch(id):
        raise JobNotFoundError(f"Could not find fine tune: {wire}.", param=param)
    return id


def file_id(wire: str, *, param: str = "file_id") -> str:
    """Our id of a file.

    Raises:
        FileNotFoundInStoreError: it is not of the form `file-…`.
    """
    id = wire.removeprefix("file-")
    if not wire.startswith("file-") or not _HEX.fullmatch(id):
        raise FileNotFoundInStoreError(
            f"No file has the id {wire!r}.", param=param, hint="List the files to see the ids, or upload it again."
        )
    return id


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
