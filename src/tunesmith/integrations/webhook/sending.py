"""One try of a delivery: a POST to an address that somebody else chose."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from tunesmith.integrations.webhook import signing
from tunesmith.sources import Limits
from tunesmith.sources._client import GuardedClient
from tunesmith.sources._guard import UnknownHostError
from tunesmith.spec.errors import TunesmithError

SECONDS = 10.0
"""For the whole try, the reading of the answer too."""

MAX_READ_BYTES = 64 * 1024
"""What lies behind them in an answer is not read."""

_KEPT_CHARACTERS = 1000
_GONE = 410


@dataclass(frozen=True)
class Target:
    """Where a delivery goes. Nothing of it may be shown."""

    url: str
    secrets: tuple[str, ...]
    """Those that sign, the newest first; none for receivers whose API knows no signature."""

    def __repr__(self) -> str:
        return "Target()"


@dataclass(frozen=True)
class Outcome:
    """What came of a try."""

    at: float
    seconds: float
    status: int | None
    answer: str
    error: str | None
    """Why it does not count; none if it does."""

    retry_after: float = 0.0
    """Seconds for which the receiver asks to be left alone."""

    @property
    def is_gone(self) -> bool:
        """Whether the receiver says that it is gone for good."""
        return self.status == _GONE


class Sender:
    """Makes tries."""

    def __init__(self, limits: Limits) -> None:
        self._client = GuardedClient(limits)

    def send(self, target: Target, *, id: str, body: str, at: float) -> Outcome:
        """Try once. Only an answer with a status from 200 to 299 that comes whole, or as far as it is read, counts;
        redirects are not followed."""
        content, begun = body.encode(), time.monotonic()
        headers = {
            "content-type": "application/json",
            **signing.headers(target.secrets, id=id, at=at, body=content),
        }
        status, answer, error, retry_after = None, b"", None, 0.0
        try:
            with self._client.stream(
                "POST", target.url, headers=headers, content=content, follow=False, seconds=SECONDS
            ) as response:
                status, retry_after = response.status_code, _retry_after(response.headers)
                answer = _read(response)
                error = None if response.is_success else _refusal(status)
        except TunesmithError as refused:  # the address is not allowed, or not any more
            error = refused.message
        except httpx2.TransportError as fault:
            error = _fault(fault)
        shown = _shown(answer, target)
        return Outcome(at, time.monotonic() - begun, status, shown, error, retry_after if error else 0.0)


def _read(response: httpx2.Response) -> bytes:
    answer = b""
    for piece in response.iter_raw():
        answer += piece
        if len(answer) > MAX_READ_BYTES:
            break
    return answer[:MAX_READ_BYTES]


def _refusal(status: int) -> str:
    if 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed."
    return f"The receiver answered {status}; only 200 to 299 counts."


def _fault(fault: httpx2.TransportError) -> str:
    """What went wrong, without addresses of our network."""
    if isinstance(fault, UnknownHostError):
        return "The host was not found."
    if isinstance(fault, httpx2.TimeoutException):
        return f"The receiver did not answer whole within {SECONDS:.0f} s."
    if isinstance(fault, httpx2.ConnectError):
        return "No connection could be made."
    return "The connection was cut off before the answer was whole."


def _retry_after(headers: Mapping[str, str]) -> float:
    """The header of this name in seconds; dates are not read."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 10 else 0.0


def _shown(answer: bytes, target: Target) -> str:
    """How an answer begins, without what a receiver may have repeated of our secrets."""
    text = answer.decode(errors="replace").replace("\0", "\ufffd")
    for secret in (*target.secrets, target.url, httpx2.URL(target.url).raw_path.decode()):
        if len(secret) > 1:
            text = text.replace(secret, "…")
    return text[:_KEPT_CHARACTERS]
