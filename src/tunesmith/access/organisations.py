"""Organisations, who belongs to them, and their projects."""

import re
import time
import uuid

from sqlalchemy import Connection

from tunesmith.access import boundaries
from tunesmith.access.boundaries import find_project
from tunesmith.access.caller import Caller, Role
from tunesmith.access.names import require_name
from tunesmith.spec.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    OrganisationNotFoundError,
)
from tunesmith.store import api_keys, organisations
from tunesmith.store.database import Database
from tunesmith.store.organisations import Member, Organisation, Project

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_USER = 255


def is_plain_id(text: str) -> bool:
    """Whether an organisation could have this id."""
    return _ID.fullmatch(text) is not None


def is_user(text: str) -> bool:
    """Whether a user could have this name."""
    return 0 < len(text) <= _MAX_USER and text.isprintable()


class Organisations:
    """The door to organisations. Whether a caller may do what it asks for is decided by `permissions.py`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, id: str, name: str) -> Organisation:
        """A new organisation.

        Raises:
            InvalidRequestError: the id or the name has letters that it may not have.
            ConflictError: the id is taken.
        """
        _require_plain(id)
        require_name(name)
        with self._database.write() as connection:
            if organisations.get(connection, id) is not None:
                raise ConflictError(f"The organisation {id!r} exists already.", param="id", hint="Choose another id.")
            return organisations.add(connection, id, name, time.time())

    def ensure(self, id: str) -> Organisation:
        """The organisation with this id, created where there is none: a trusted token or the operator named it.

        Raises:
            InvalidRequestError: the id has letters that it may not have.
        """
        with self._database.read() as connection:
            present = organisations.get(connection, id)
        if present is not None:
            return present
        _require_plain(id)
        with self._database.write() as connection:
            return organisations.get(connection, id) or organisations.add(connection, id, id, time.time())

    def listed(self) -> list[Organisation]:
        """All organisations by id. For the operator: no caller sees another organisation than its own."""
        with self._database.read() as connection:
            return organisations.all_by_id(connection)

    def get(self, caller: Caller, id: str) -> Organisation:
        """The caller's organisation.

        Raises:
            OrganisationNotFoundError: there is none with this id, or it is not the caller's: both read the same.
        """
        with self._database.read() as connection:
            organisation = organisations.get(connection, id)
        if organisation is None or organisation.id != caller.org:
            raise OrganisationNotFoundError(
                f"No organisation has the id {id!r}.", hint="A credential sees its own organisation only."
            )
        return organisation

    def members(self, org: str) -> list[Member]:
        """Members by name."""
        with self._database.read() as connection:
            return organisations.members_of(connection, org)

    def role_of(self, org: str, user: str) -> Role | None:
        """The role of a listed member; none for everybody else."""
        with self._database.read() as connection:
            member = organisations.member(connection, org, user)
        return Role(member.role) if member else None

    def add_member(self, org: str, user: str, role: Role) -> Member:
        """List a user, named as tokens name it in `sub`.

        Raises:
            InvalidRequestError: nobody can be called so.
            ConflictError: the user is listed already.
        """
        if not is_user(user):
            raise InvalidRequestError(
                f"User {user!r} is not allowed.", param="user", hint=f"Use 1 to {_MAX_USER} printable letters."
            )
        with self._database.write() as connection:
            if organisations.member(connection, org, user) is not None:
                raise ConflictError(
                    f"The user {user!r} is a member already.", param="user", hint="Change the member's role instead."
                )
            return organisations.add_member(connection, org, user, role.value, time.time())

    def change_member(self, org: str, user: str, role: Role) -> Member:
        """Give a member another role.

        Raises:
            NotFoundError: no such member.
            ConflictError: it is the last owner.
        """
        with self._database.write() as connection:
            member = _member(connection, org, user)
            if role is not Role.OWNER:
                _require_other_owner(connection, member)
            return organisations.change_member(connection, member, role.value)

    def remove_member(self, org: str, user: str) -> None:
        """Strike a member off, and revoke the member's API keys.

        Raises:
            NotFoundError: no such member.
            ConflictError: it is the last owner.
        """
        with self._database.write() as connection:
            member = _member(connection, org, user)
            _require_other_owner(connection, member)
            organisations.remove_member(connection, member)
            api_keys.revoke_of_user(connection, org, user, time.time())

    def create_project(self, org: str, name: str) -> Project:
        """A new project.

        Raises:
            InvalidRequestError: the name is empty, too long or not printable.
            ConflictError: the organisation has a project of this name.
        """
        require_name(name)
        with self._database.write() as connection:
            if any(project.name == name for project in organisations.projects_of(connection, org)):
                raise ConflictError(
                    f"A project is called {name!r} already.",
                    param="name",
                    hint="Names of archived projects stay taken.",
                )
            return organisations.add_project(connection, org, f"proj_{uuid.uuid4().hex}", name, time.time())

    def projects(self, org: str) -> list[Project]:
        """Projects by name, archived ones too."""
        with self._database.read() as connection:
            return organisations.projects_of(connection, org)

    def project(self, org: str, id: str, *, param: str | None = None) -> Project:
        """One project.

        Raises:
            ProjectNotFoundError: the organisation has no project with this id.
        """
        with self._database.read() as connection:
            return find_project(connection, org, id, param=param)

    def require_project(self, caller: Caller, id: str, *, param: str) -> None:
        """As `boundaries.require_project`, for those without a connection."""
        with self._database.read() as connection:
            boundaries.require_project(connection, caller, id, param=param)

    def require_open_project(self, caller: Caller, id: str, *, param: str) -> None:
        """As `boundaries.require_open_project`, for those without a connection."""
        with self._database.read() as connection:
            boundaries.require_open_project(connection, caller, id, param=param)

    def archive_project(self, org: str, id: str) -> Project:
        """Close a project for new work. Archiving it again changes nothing.

        Raises:
            ProjectNotFoundError: the organisation has no project with this id.
        """
        with self._database.write() as connection:
            project = find_project(connection, org, id, param=None)
            return project if project.archived_at else organisations.archive_project(connection, project, time.time())


def _member(connection: Connection, org: str, user: str) -> Member:
    member = organisations.member(connection, org, user)
    if member is None:
        raise NotFoundError(f"No member is called {user!r}.", hint="List the members to see their names.")
    return member


def _require_other_owner(connection: Connection, member: Member) -> None:
    if Role(member.role) is Role.OWNER and organisations.count_owners(connection, member.org) == 1:
        raise ConflictError(
            f"{member.user!r} is the last owner, and an organisation keeps at least one.",
            param="user",
            hint="Make another member an owner first.",
        )


def _require_plain(id: str) -> None:
    if not is_plain_id(id):
        raise InvalidRequestError(
            f"Organisation id {id!r} is not allowed.",
            param="id",
            hint="Use 1 to 64 letters, digits and . _ -, beginning with a letter or digit.",
        )
