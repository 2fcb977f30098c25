"""What a content must hash to, where the other side says so."""

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Literal

import httpx2

from tunesmith.spec.frozen import Frozen

if TYPE_CHECKING:
    from hashlib import _Hash


class Digest(Frozen):
    """An expected digest."""

    kind: Literal["sha256", "md5", "git"]
    """`git` is the SHA-1 of a Git blob: of a header with the length, then the content."""

    hex: str

    def begin(self, length: int | None) -> "_Hash":
        """A hash object to feed the content to."""
        if self.kind == "git":
            return hashlib.sha1(f"blob {length}\0".encode(), usedforsecurity=False)
        return hashlib.new(self.kind, usedforsecurity=False)


def declared(response: httpx2.Response) -> Digest | None:
    """The digest of the whole content that the headers of a response tell: RFC 9530's, or Google Cloud Storage's."""
    for header, pattern, kind in (
        ("repr-digest", r"sha-256=:([^:]+):", "sha256"),
        ("x-goog-hash", r"md5=([^,\s]+)", "md5"),
    ):
        found = re.search(pattern, response.headers.get(header, ""))
        if found:
            try:
                return Digest.model_validate({"kind": kind, "hex": base64.b64decode(found[1], validate=True).hex()})
            except binascii.Error:
                return None
    return None
