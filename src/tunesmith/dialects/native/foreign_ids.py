"""Ids in the form of OpenAI's API, which name the same things and are not known here by that name."""

import re

from tunesmith.spec.errors import (
    CheckpointNotFoundError,
    FileNotFoundInStoreError,
    InvalidRequestError,
    JobNotFoundError,
    ModelNotFoundError,
    TunesmithError,
)

_FOREIGN = re.compile(r"'(ftjob-|file-|ftckpt_|ftevent-)([0-9a-f-]{32,36})(@best)?'")
_JOB_OR_CHECKPOINT = re.compile(r"'(?:ftjob-|ftckpt_)?[0-9a-f-]{32,36}(?:@best)?'")
_KNOWN_BY_ID = (JobNotFoundError, FileNotFoundInStoreError, CheckpointNotFoundError, InvalidRequestError)


def explained(error: TunesmithError) -> TunesmithError:
    """The same error; of an id in another API's form, with a hint of what it is here."""
    found = _FOREIGN.search(error.message)
    if found is not None and isinstance(error, _KNOWN_BY_ID):
        bare = found[2].replace("-", "")
        return _with_hint(error, f"Ids of this API are 32 hexadecimal digits without a prefix: {bare!r}.")
    if isinstance(error, ModelNotFoundError) and _JOB_OR_CHECKPOINT.search(error.message):
        return _with_hint(
            error, "A job's model has an id of its own, `model` of the job. A checkpoint is named by `init_from`."
        )
    return error


def _with_hint(error: TunesmithError, hint: str) -> TunesmithError:
    return type(error)(error.message, param=error.param, hint=hint)
