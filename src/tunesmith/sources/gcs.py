"""Objects of Google Cloud Storage, through its XML API."""

import functools
import json
from typing import TYPE_CHECKING

import httpx2

from tunesmith.sources import Credentials, Limits, Location
from tunesmith.sources._buckets import Object, error_fields, read_address, read_endpoint, signed
from tunesmith.sources._credentials import read_credentials
from tunesmith.sources._download import Remote, explanation
from tunesmith.sources._single import SingleRequestSource
from tunesmith.spec.errors import (
    SourceCredentialsError,
    TunesmithError,
)

if TYPE_CHECKING:
    from obstore.store import GCSStore

_ENDPOINT = "https://storage.googleapis.com"
_KEY = "service_account_key"
_REFUSED_KEY = ("SignatureDoesNotMatch", "ExpiredToken", "InvalidSecurity")


def create(limits: Limits, _hub_endpoint: str | None) -> SingleRequestSource:
    """The source of `gs://` addresses."""
    return SingleRequestSource(limits, _remote)


def _remote(location: Location, credentials: Credentials | None) -> Remote:
    target = read_address(location.address, ("gs", "gcs"))
    has_key = credentials is not None and set(credentials) != {"endpoint"}
    read_credentials(
        credentials, required=(_KEY,) if has_key else (), optional=("endpoint",) if has_key else (_KEY, "endpoint")
    )
    endpoint = read_endpoint(credentials, _ENDPOINT)
    if credentials is not None and has_key:
        store = functools.partial(_store, target.bucket, _with_endpoint(credentials[_KEY], endpoint))
        url = functools.partial(signed, store, target, endpoint)
    else:
        url = functools.partial(target.url_below, endpoint)
    refusal = functools.partial(_refusal, target, has_key)
    return Remote(label=location.address, url=url, refusal=refusal, follow=False)


def _with_endpoint(key: str, endpoint: str) -> str:
    """The key with the address to use written into it, which is where the library looks for one."""
    try:
        fields = json.loads(key)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise SourceCredentialsError(f"The field {_KEY!r} is not the JSON text of a service account's key.")
    return json.dumps(fields | {"gcs_base_url": endpoint})


def _store(bucket: str, key: str) -> "GCSStore":
    from obstore.store import GCSStore

    return GCSStore(bucket, service_account_key=key)


def _refusal(target: Object, has_key: bool, response: httpx2.Response) -> TunesmithError:
    code = error_fields(explanation(response)).get("Code", "")
    if code in _REFUSED_KEY:
        return SourceCredentialsError("Google Cloud Storage refuses the service account's key.", hint="Is it deleted?")
    return target.refusal(response.status_code, code, has_key)
