"""Who calls."""

from enum import StrEnum

from tunesmith.spec.frozen import Frozen


class Role(StrEnum):
    """What somebody may do in an organisation; the permissions are in `permissions.py`."""

    OWNER = "owner"
    MEMBER = "member"
    VIEWER = "viewer"


class Caller(Frozen):
    """On whose behalf a request is answered."""

    org: str
    """Id of the organisation: nothing of another one is visible."""

    user: str | None
    """None for a key that belongs to no person, and on an open server."""

    role: Role
    project: str | None = None
    """Id of the only project that the credential may work in; none = all of the organisation."""

    @property
    def is_local(self) -> bool:
        """Whether this is everybody who calls an open server."""
        return self is LOCAL


LOCAL = Caller(org="local", user=None, role=Role.OWNER)
"""Everybody who calls an open server: its one organisation."""
