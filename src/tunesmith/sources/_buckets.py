"""What the two kinds of object stores have in common: addresses, requests signed by the library, errors as XML.

The library only signs; the signed URLs are fetched by our own client, so that no object store, and no endpoint that a
user names, is reached past the guard.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from tunesmith.sources import Credentials
from tunesmith.sources._guard import parse_url
from tunesmith.spec.errors import (
    DownloadError,
    InvalidRequestError,
    SourceCredentialsError,
    SourceNotFoundError,
    TunesmithError,
    UnavailableError,
)
from tunesmith.spec.frozen import Frozen

if TYPE_CHECKING:
    from obstore.store import GCSStore, S3Store

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_LONGEST_KEY_BYTES = 1024
_SIGNED_FOR = timedelta(hours=1)  # a request begins at once; what it yields may take longer


class Object(Frozen):
    """An object of a bucket."""

    bucket: str
    key: str

    def url_below(self, endpoint: str) -> str:
        """Its unsigned URL, the bucket as the first part of the path."""
        return f"{endpoint}/{self.bucket}/{quote(self.key, safe='/~')}"

    def refusal(self, status: int, code: str, has_keys: bool) -> TunesmithError:
        """What a store's answer means, by its HTTP status and by the code in its body."""
        if code == "NoSuchBucket":
            return SourceNotFoundError(f"There is no bucket {self.bucket!r}.")
        if status == 404:
            return SourceNotFoundError(f"The bucket {self.bucket!r} has no object {self.key!r}.")
        if status in (401, 403) or (status == 400 and not has_keys):
            what = "These credentials may not read" if has_keys else "Nobody may read without credentials"
            return SourceCredentialsError(f"{what} {self.key!r} in the bucket {self.bucket!r}, or it does not exist.")
        told = f"status {status}{', ' + code if code else ''}"
        if status < 500:
            return InvalidRequestError(f"The store of {self.bucket!r} answers with {told}.")
        return DownloadError(f"The store of {self.bucket!r} answers with {told}.", hint="Try again.")


def read_address(address: str, schemes: tuple[str, ...]) -> Object:
    """Bucket and key of `scheme://bucket/key`.

    Raises:
        InvalidRequestError: it is something else.
    """
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in schemes or not _BUCKET.fullmatch(bucket):
        raise InvalidRequestError(
            f"The address {address[:100]!r} is not understood; it reads {schemes[0]}://bucket/key."
        )
    if not key or key.endswith("/"):
        raise InvalidRequestError(
            f"The address {address[:100]!r} names a bucket or a folder.",
            hint="Name one file, such as data/train.jsonl.",
        )
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(ord(letter) < 32 for letter in key):
        raise InvalidRequestError(
            "The key has an empty part, '.', '..' or a control character.",
            hint="Copy the object under a plain name.",
        )
    if len(key.encode()) > _LONGEST_KEY_BYTES:
        raise InvalidRequestError(f"The key has more than {_LONGEST_KEY_BYTES:,} bytes.")
    return Object(bucket=bucket, key=key)


def read_endpoint(credentials: Credentials | None, default: str) -> str:
    """The endpoint that the credentials name, without a slash at its end.

    Raises:
        InvalidRequestError: it is more than scheme, host and port.
        AddressRefusedError: its scheme or port is not allowed.
    """
    endpoint = (credentials or {}).get("endpoint", default).rstrip("/")
    try:
        url = parse_url(endpoint)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"The field 'endpoint' of the credentials: {error.message}") from error
    if url.raw_path not in (b"", b"/") or url.fragment:
        raise InvalidRequestError("The endpoint has a path or a query; it reads https://host[:port].")
    return endpoint


def signed(store: Callable[[], "S3Store | GCSStore"], target: Object, endpoint: str) -> str:
    """A URL that reads an object for an hour.

    Raises:
        SourceCredentialsError: the credentials cannot sign.
        UnavailableError: the environment of this server would lead the request elsewhere.
    """
    import obstore
    from obstore.exceptions import BaseError

    try:
        url = obstore.sign(store(), "GET", target.key, _SIGNED_FOR)
    except (BaseError, ValueError):  # their texts may quote the key
        raise SourceCredentialsError("Nothing can be signed with these credentials: they are malformed.") from None
    if url.partition("?")[0] != target.url_below(endpoint):
        raise UnavailableError(
            "Variables in the environment of this server would lead requests to another object store.",
            hint="An operator has to start it without variables of AWS_ and GOOGLE_.",
        )
    return url


def error_fields(body: str) -> Mapping[str, str]:
    """The fields of an error as S3 and Google Cloud Storage write it: `<Error><Code>NoSuchKey</Code>…`."""
    return dict(re.findall(r"<(Code|Region)>([A-Za-z0-9_.-]{1,64})</", body))
