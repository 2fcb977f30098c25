"""What each role may do."""

from enum import StrEnum

from tunesmith.access.caller import Caller, Role
from tunesmith.spec.errors import RoleError


class Action(StrEnum):
    """What somebody may want to do, as refusals call it."""

    READ = "read"
    SUBMIT = "submit jobs"
    CONTROL = "cancel, pause or resume jobs"
    UPLOAD = "upload files and datasets"
    DELETE = "delete jobs, files, datasets and models"
    CREATE_SECRETS = "create secrets"
    MANAGE_SECRETS = "replace or delete secrets"
    MANAGE_KEYS = "manage API keys"
    MANAGE_MEMBERS = "manage members"
    MANAGE_PROJECTS = "manage projects"
    MANAGE_WEBHOOKS = "manage webhooks"


_ALL = (Role.OWNER, Role.MEMBER, Role.VIEWER)
_WORKING = (Role.OWNER, Role.MEMBER)
_OWNING = (Role.OWNER,)

ALLOWED: dict[Action, tuple[Role, ...]] = {
    Action.READ: _ALL,
    Action.SUBMIT: _WORKING,
    Action.CONTROL: _WORKING,
    Action.UPLOAD: _WORKING,
    Action.DELETE: _WORKING,
    Action.CREATE_SECRETS: _WORKING,
    Action.MANAGE_SECRETS: _OWNING,
    Action.MANAGE_KEYS: _OWNING,
    Action.MANAGE_MEMBERS: _OWNING,
    Action.MANAGE_PROJECTS: _OWNING,
    Action.MANAGE_WEBHOOKS: _OWNING,
}
"""Who may do what with the things of their own organisation."""


def require(caller: Caller, action: Action) -> None:
    """Let pass only who may.

    Raises:
        RoleError: the caller's role does not allow this.
    """
    if caller.role not in ALLOWED[action]:
        raise RoleError(
            f"The role {caller.role.value!r} may not {action.value}; allowed: {', '.join(ALLOWED[action])}.",
            hint=f"Ask an owner of the organisation {caller.org!r} for another role or key.",
        )
