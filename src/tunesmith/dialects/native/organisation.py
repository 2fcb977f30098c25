"""The caller's organisation: who am I, members, projects and API keys."""

from fastapi import APIRouter

from tunesmith.access.caller import Role
from tunesmith.access.permissions import Action, require
from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.access_answers import Identity, KeyAnswer, MemberAnswer, NewKey, ProjectAnswer
from tunesmith.dialects.native.access_wire import KeyRequest, MemberRequest, ProjectRequest, RoleRequest
from tunesmith.dialects.native.answers import Deleted, Listing
from tunesmith.dialects.native.render import to_key, to_member, to_project
from tunesmith.spec.errors import ConflictError


def routes() -> APIRouter:
    """The endpoints of the organisation."""
    router = APIRouter(tags=["organisation"], route_class=StrictRoute)
    _add_members(router)
    _add_projects(router)
    _add_keys(router)
    return router


def _add_members(router: APIRouter) -> None:
    @router.get("/organisation", summary="Who am I")
    def identify(services: Opened) -> Identity:
        """The organisation, user and role that the credential stands for."""
        caller = services.caller
        organisation = services.organisations.ensure(caller.org)
        return Identity(
            organisation=caller.org,
            name=organisation.name,
            user=caller.user,
            role=caller.role.value,
            project=caller.project,
        )

    @router.get("/organisation/members", summary="List members")
    def members(services: Opened) -> Listing[MemberAnswer]:
        """Members by name."""
        return Listing(data=[to_member(member) for member in services.organisations.members(services.caller.org)])

    @router.post("/organisation/members", summary="Add a member")
    def add(services: Opened, body: MemberRequest) -> MemberAnswer:
        """List a user with a role, which then wins over that of the user's tokens."""
        _require_managing(services, Action.MANAGE_MEMBERS)
        org = services.caller.org
        services.organisations.ensure(org)
        return to_member(services.organisations.add_member(org, body.user, Role(body.role)))

    @router.put("/organisation/members/{user:path}", summary="Change a member's role")
    def change(services: Opened, user: str, body: RoleRequest) -> MemberAnswer:
        """Give a member another role. The last owner stays one."""
        _require_managing(services, Action.MANAGE_MEMBERS)
        return to_member(services.organisations.change_member(services.caller.org, user, Role(body.role)))

    @router.delete("/organisation/members/{user:path}", summary="Remove a member")
    def remove(services: Opened, user: str) -> Deleted:
        """Strike a member off and revoke the member's API keys."""
        _require_managing(services, Action.MANAGE_MEMBERS)
        services.organisations.remove_member(services.caller.org, user)
        return Deleted(id=user)


def _add_projects(router: APIRouter) -> None:
    @router.get("/projects", summary="List projects")
    def projects(services: Opened) -> Listing[ProjectAnswer]:
        """Projects by name, archived ones too; those that the credential may work in."""
        caller = services.caller
        found = services.organisations.projects(caller.org)
        return Listing(data=[to_project(each) for each in found if caller.project in (None, each.id)])

    @router.post("/projects", summary="Create a project")
    def create(services: Opened, body: ProjectRequest) -> ProjectAnswer:
        """A name to file jobs under, and to bind API keys to."""
        require(services.caller, Action.MANAGE_PROJECTS)
        return to_project(services.organisations.create_project(services.caller.org, body.name))

    @router.post("/projects/{project_id}/archive", summary="Archive a project")
    def archive(services: Opened, project_id: str) -> ProjectAnswer:
        """Close a project for new jobs. Archiving it again changes nothing."""
        require(services.caller, Action.MANAGE_PROJECTS)
        return to_project(services.organisations.archive_project(services.caller.org, project_id))


def _add_keys(router: APIRouter) -> None:
    @router.get("/keys", summary="List API keys")
    def keys(services: Opened) -> Listing[KeyAnswer]:
        """The organisation's keys by their last letters, oldest first, revoked ones too."""
        require(services.caller, Action.MANAGE_KEYS)
        return Listing(data=[to_key(key) for key in services.keys.listed(services.caller.org)])

    @router.post("/keys", summary="Create an API key")
    def create(services: Opened, body: KeyRequest) -> NewKey:
        """A new key. The answer is the only place where it is ever shown."""
        _require_managing(services, Action.MANAGE_KEYS)
        key, plaintext = services.keys.create(
            services.caller.org,
            name=body.name,
            role=Role(body.role),
            user=body.user,
            project=body.project,
            expires_at=body.expires_at,
        )
        return NewKey(**to_key(key).model_dump(), key=plaintext)

    @router.delete("/keys/{key_id}", summary="Revoke an API key")
    def revoke(services: Opened, key_id: str) -> KeyAnswer:
        """End a key at once. Revoking it again changes nothing."""
        require(services.caller, Action.MANAGE_KEYS)
        return to_key(services.keys.revoke(services.caller.org, key_id))


def _require_managing(services: Services, action: Action) -> None:
    """Let pass owners who proved to be some: on an open server everybody on the machine is one.

    Raises:
        RoleError: the caller's role does not allow this.
        ConflictError: the server asks nobody for a credential.
    """
    require(services.caller, action)
    if services.caller.is_local:
        raise ConflictError(
            f"This server asks nobody for a credential, so nobody may {action.value} over its API.",
            hint="Set authentication to 'required'; `tunesmith keys create` makes the first key.",
        )
