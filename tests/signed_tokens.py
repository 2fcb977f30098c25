"""Real keys and tokens for tests of authentication."""

import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

SECRET = b"a secret of thirty-two bytes or more"
ISSUER = "https://login.example.org"
AUDIENCE = "tunesmith"


@cache
def rsa_key(name: str = "one", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key for RS256; the same one for the same name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(name: str = "one") -> ec.EllipticCurvePrivateKey:
    """A key for ES256; the same one for the same name."""
    return ec.generate_private_key(ec.SECP256R1())


def public_rsa(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    """An entry of a key set."""
    return {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


def public_ec(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    """An entry of a key set."""
    return {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": kid}


def payload(**changes: Any) -> dict[str, Any]:
    """Claims of a valid token; changes of none leave a claim out."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(time.time()) + 600,
        "org": "acme",
        "sub": "ada",
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **changes: Any) -> str:
    """A signed token."""
    headers = {"kid": kid} if kid is not None else None
    return jwt.encode(payload(**changes), key, algorithm=algorithm, headers=headers)
