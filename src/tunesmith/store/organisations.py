"""Rows of organisations, their members and their projects."""

from typing import Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from tunesmith.spec.frozen import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import members, organisations, projects

RoleName = Literal["owner", "member", "viewer"]


class Organisation(Frozen):
    """Whoever owns things together."""

    id: str
    name: str
    created_at: float


class Member(Frozen):
    """A user of an organisation."""

    org: str
    user: str
    """As tokens name it in `sub`."""

    role: RoleName
    created_at: float


class Project(Frozen):
    """A part of an organisation's work."""

    id: str
    org: str
    name: str
    created_at: float
    archived_at: float | None


def add(connection: Connection, id: str, name: str, at: float) -> Organisation:
    """Insert an organisation."""
    organisation = Organisation(id=id, name=name, created_at=at)
    connection.execute(insert(organisations).values(**organisation.model_dump()))
    return organisation


def get(connection: Connection, id: str) -> Organisation | None:
    """One organisation."""
    row = connection.execute(select(organisations).where(organisations.c.id == id)).one_or_none()
    return to_record(Organisation, row) if row else None


def all_by_id(connection: Connection) -> list[Organisation]:
    """All organisations."""
    rows = connection.execute(select(organisations).order_by(organisations.c.id))
    return [to_record(Organisation, row) for row in rows]


def add_member(connection: Connection, org: str, user: str, role: RoleName, at: float) -> Member:
    """Insert a member."""
    member = Member(org=org, user=user, role=role, created_at=at)
    connection.execute(insert(members).values(**member.model_dump()))
    return member


def member(connection: Connection, org: str, user: str) -> Member | None:
    """One member."""
    row = connection.execute(select(members).where(members.c.org == org, members.c.user == user)).one_or_none()
    return to_record(Member, row) if row else None


def members_of(connection: Connection, org: str) -> list[Member]:
    """An organisation's members by name."""
    rows = connection.execute(select(members).where(members.c.org == org).order_by(members.c.user))
    return [to_record(Member, row) for row in rows]


def count_owners(connection: Connection, org: str) -> int:
    """Number of members who own the organisation."""
    query = select(func.count()).select_from(members).where(members.c.org == org, members.c.role == "owner")
    return connection.execute(query).scalar_one()


def change_member(connection: Connection, member: Member, role: RoleName) -> Member:
    """Give a member another role."""
    connection.execute(
        update(members).where(members.c.org == member.org, members.c.user == member.user).values(role=role)
    )
    return member.model_copy(update={"role": role})


def remove_member(connection: Connection, member: Member) -> None:
    """Delete a member."""
    connection.execute(delete(members).where(members.c.org == member.org, members.c.user == member.user))


def add_project(connection: Connection, org: str, id: str, name: str, at: float) -> Project:
    """Insert a project."""
    project = Project(id=id, org=org, name=name, created_at=at, archived_at=None)
    connection.execute(insert(projects).values(**project.model_dump()))
    return project


def project(connection: Connection, org: str, id: str) -> Project | None:
    """One of an organisation's projects."""
    row = connection.execute(select(projects).where(projects.c.org == org, projects.c.id == id)).one_or_none()
    return to_record(Project, row) if row else None


def projects_of(connection: Connection, org: str) -> list[Project]:
    """An organisation's projects by name, archived ones too."""
    rows = connection.execute(select(projects).where(projects.c.org == org).order_by(projects.c.name))
    return [to_record(Project, row) for row in rows]


def archive_project(connection: Connection, project: Project, at: float) -> Project:
    """Mark a project as archived."""
    connection.execute(update(projects).where(projects.c.id == project.id).values(archived_at=at))
    return project.model_copy(update={"archived_at": at})
