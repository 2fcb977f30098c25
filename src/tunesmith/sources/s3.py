"""Objects of Amazon S3, and of whatever speaks its protocol."""

import functools
import re
from typing import TYPE_CHECKING

import httpx2

from tunesmith.sources import Credentials, Limits, Location
from tunesmith.sources._buckets import Object, error_fields, read_address, read_endpoint, signed
from tunesmith.sources._credentials import read_credentials
from tunesmith.sources._download import Remote, explanation
from tunesmith.sources._single import SingleRequestSource
from tunesmith.spec.errors import (
    InvalidRequestError,
    SourceCredentialsError,
    TunesmithError,
)

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

_KEYS = ("access_key_id", "secret_access_key")
_OPTIONAL = ("session_token", "endpoint")
_REFUSED_KEYS = {
    "InvalidAccessKeyId": "the access key id is unknown there",
    "SignatureDoesNotMatch": "the secret access key does not belong to the access key id",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is malformed",
    "RequestTimeTooSkewed": "the clocks of this server and of the store differ by too much",
}
_ELSEWHERE = (
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
_REGION = re.compile(r"[a-z0-9-]{2,40}")
_DEFAULT_REGION = "us-east-1"


def create(limits: Limits, _hub_endpoint: str | None) -> SingleRequestSource:
    """The source of `s3://` addresses."""
    return SingleRequestSource(limits, _remote)


def _remote(location: Location, credentials: Credentials | None) -> Remote:
    target = read_address(location.address, ("s3",))
    region = location.region or _DEFAULT_REGION
    if not _REGION.fullmatch(region):
        raise InvalidRequestError(f"The region {region[:50]!r} is not understood; it reads like eu-west-1.")
    has_keys = credentials is not None and set(credentials) != {"endpoint"}
    read_credentials(credentials, required=_KEYS if has_keys else (), optional=_OPTIONAL)
    endpoint = read_endpoint(credentials, f"https://s3.{region}.amazonaws.com")
    if credentials is not None and has_keys:
        store = functools.partial(_store, target.bucket, region, endpoint, credentials)
        url = functools.partial(signed, store, target, endpoint)
    else:
        url = functools.partial(target.url_below, endpoint)
    refusal = functools.partial(_refusal, target, region, has_keys)
    return Remote(label=location.address, url=url, refusal=refusal, follow=False)


def _store(bucket: str, region: str, endpoint: str, credentials: Credentials) -> "S3Store":
    """A store that signs with these credentials; whatever the library would take from the environment is set here."""
    from obstore.store import S3Store

    def provide() -> "S3Credential":
        return {
            "access_key_id": credentials["access_key_id"],
            "secret_access_key": credentials["secret_access_key"],
            "token": credentials.get("session_token"),
            "expires_at": None,
        }

    return S3Store(
        bucket,
        region=region,
        aws_endpoint_url_s3=endpoint,
        credential_provider=provide,
        skip_signature=False,
        virtual_hosted_style_request=False,
        s3_express=False,
        client_options={"allow_http": True},
    )


def _refusal(target: Object, region: str, has_keys: bool, response: httpx2.Response) -> TunesmithError:
    status = response.status_code
    fields = error_fields(explanation(response))
    code = fields.get("Code", "")
    home = response.headers.get("x-amz-bucket-region") or fields.get("Region", "")
    if code in _REFUSED_KEYS:
        return SourceCredentialsError(f"S3 refuses the credentials: {_REFUSED_KEYS[code]}.")
    if code in _ELSEWHERE or status in (301, 307):
        where = f"lies in region {home!r}" if _REGION.fullmatch(home) else "lies in another region"
        return InvalidRequestError(f"The bucket {target.bucket!r} {where}, not in {region!r}.", hint="Name its region.")
    return target.refusal(status, code, has_keys)
