"""Signatures of Standard Webhooks, which OpenAI's client checks, too."""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence

_PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> str:
    """A signing secret: `whsec_` and 256 random bits in Base64."""
    return _PREFIX + base64.b64encode(os.urandom(_SECRET_BYTES)).decode()


def headers(secrets: Sequence[str], *, id: str, at: float, body: bytes) -> dict[str, str]:
    """The headers that identify a message, tell the time of its sending, and sign both with the body, once with each
    secret."""
    timestamp = str(int(at))
    signatures = [_signature(secret, f"{id}.{timestamp}.".encode() + body) for secret in secrets]
    signed = {"webhook-signature": " ".join(signatures)} if signatures else {}
    return {"webhook-id": id, "webhook-timestamp": timestamp, **signed}


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
