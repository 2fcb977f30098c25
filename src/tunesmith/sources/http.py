"""Files behind a plain URL."""

import functools
import json

import httpx2

from tunesmith.sources import Credentials, Limits, Location
from tunesmith.sources._credentials import bearer, read_credentials
from tunesmith.sources._download import Remote
from tunesmith.sources._guard import parse_url, shown
from tunesmith.sources._single import SingleRequestSource
from tunesmith.spec.errors import (
    DownloadError,
    InvalidRequestError,
    SourceCredentialsError,
    SourceNotFoundError,
    TunesmithError,
)


def create(limits: Limits, _hub_endpoint: str | None) -> SingleRequestSource:
    """The source of `http://` and `https://` addresses."""
    return SingleRequestSource(limits, _remote)


def _remote(location: Location, credentials: Credentials | None) -> Remote:
    label = shown(parse_url(location.address))
    return Remote(
        label=label,
        url=lambda: location.address,
        headers=_headers(credentials),
        refusal=functools.partial(_refusal, label, credentials is not None),
        other_types=("text/html", "application/xhtml+xml"),
    )


def _headers(credentials: Credentials | None) -> dict[str, str]:
    """What the credentials add to each request. Which headers a secret may hold is checked when it is made."""
    if not credentials:
        return {}
    read_credentials(credentials, required=(), optional=("bearer_token", "headers"))
    try:
        named = dict(httpx2.Headers(json.loads(credentials.get("headers", "{}"))))
    except (ValueError, TypeError, AttributeError):  # whose texts would show a part of the value
        raise SourceCredentialsError("The field 'headers' is no JSON object of header names and values.") from None
    return named | (bearer(credentials["bearer_token"]) if "bearer_token" in credentials else {})


def _refusal(label: str, has_credentials: bool, response: httpx2.Response) -> TunesmithError:
    status = response.status_code
    if status in (401, 403, 407):
        what = "refuses the credentials" if has_credentials else "asks for credentials"
        return SourceCredentialsError(f"The server of {label!r} {what} (status {status}).")
    if status in (404, 410):
        return SourceNotFoundError(f"Nothing lies at {label!r} (status {status}).")
    if status == 200:
        return InvalidRequestError(
            f"{label!r} is a web page, not a file.",
            hint="Take the address of the download itself; does it need a log-in?",
        )
    if status < 500:
        return InvalidRequestError(f"The server of {label!r} answers with status {status} in the place of a file.")
    return DownloadError(f"The server of {label!r} answers with status {status}.", hint="Try again.")
