"""What a caller may name: its own organisation, and projects that it may work in.

On an open server any text is a label. What is out of bounds answers exactly as what does not exist.
"""

from sqlalchemy import Connection

from tunesmith.access.caller import Caller
from tunesmith.spec.errors import ConflictError, OrganisationNotFoundError, ProjectNotFoundError
from tunesmith.store import organisations
from tunesmith.store.organisations import Project


def require_own(caller: Caller, org: str, *, param: str) -> None:
    """See that an organisation which a request names is the caller's.

    Raises:
        OrganisationNotFoundError: it is another one, or none.
    """
    if not caller.is_local and org != caller.org:
        raise OrganisationNotFoundError(f"No organisation has the id {org[:100]!r}.", param=param)


def require_project(connection: Connection, caller: Caller, id: str, *, param: str) -> None:
    """See that a project which a request names is one that the caller may work in.

    Raises:
        ProjectNotFoundError: the organisation has none with this id, or the credential is bound to another one.
    """
    if not caller.is_local:
        _check_bound(caller, id, param)
        find_project(connection, caller.org, id, param=param)


def require_open_project(connection: Connection, caller: Caller, id: str, *, param: str) -> None:
    """See that a project takes new work.

    Raises:
        ProjectNotFoundError: as `require_project`.
        ConflictError: it is archived.
    """
    if not caller.is_local:
        _check_bound(caller, id, param)
        find_open_project(connection, caller.org, id, param=param)


def find_project(connection: Connection, org: str, id: str, *, param: str | None) -> Project:
    """One project of an organisation, whoever asks.

    Raises:
        ProjectNotFoundError: the organisation has no project with this id.
    """
    project = organisations.project(connection, org, id)
    if project is None:
        raise _not_found(id, param)
    return project


def find_open_project(connection: Connection, org: str, id: str, *, param: str) -> Project:
    """One project of an organisation that takes new work.

    Raises:
        ProjectNotFoundError: the organisation has no project with this id.
        ConflictError: it is archived.
    """
    project = find_project(connection, org, id, param=param)
    if project.archived_at is not None:
        raise ConflictError(f"The project {id!r} is archived.", param=param, hint="Name another project.")
    return project


def _check_bound(caller: Caller, id: str, param: str) -> None:
    if caller.project not in (None, id):
        raise _not_found(id, param)


def _not_found(id: str, param: str | None) -> ProjectNotFoundError:
    return ProjectNotFoundError(
        f"No project has the id {id[:100]!r}.", param=param, hint="List the projects to see their ids."
    )
