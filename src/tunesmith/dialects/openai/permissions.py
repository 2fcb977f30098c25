"""`/v1/fine_tuning/checkpoints/{checkpoint}/permissions`: which projects may use a checkpoint."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints

from tunesmith.access.permissions import Action, require
from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.openai import answers, checkpoints, ids
from tunesmith.dialects.openai.hyperparameters import Wire
from tunesmith.dialects.openai.mounts import Mount
from tunesmith.dialects.openai.paging import After, Limit, behind, page
from tunesmith.dialects.openai.render import render_permission
from tunesmith.spec.errors import NotFoundError

ProjectId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class GrantPermissions(Wire):
    """Body of `POST …/permissions`."""

    project_ids: list[ProjectId] = Field(min_length=1, max_length=100)


def routes(mount: Mount) -> APIRouter:
    """The endpoints of permissions. A checkpoint's name may hold slashes, as hub names do."""
    prefix = f"{mount.prefix}/v1/fine_tuning/checkpoints"
    router = APIRouter(prefix=prefix, tags=["permissions"], route_class=StrictRoute)

    @router.get("/{checkpoint:path}/permissions", response_model=answers.Page[answers.Permission])
    def list_permissions(
        services: Opened,
        checkpoint: str,
        project_id: Annotated[str | None, Query(max_length=64, description="Only that of this project.")] = None,
        order: Literal["ascending", "descending"] = "descending",
        limit: Limit = 10,
        after: After = None,
    ) -> dict[str, Any]:
        """List the permissions of a checkpoint."""
        _, found = checkpoints.by_name(services, checkpoint, param="checkpoint")
        permissions = services.checkpoint_permissions.listed(found.id)
        if order == "descending":
            permissions.reverse()
        wanted = [each for each in permissions if project_id in (None, each.project_id)]
        last = ids.permission_id(after, param="after") if after else None
        rest = behind(wanted, last, lambda permission: permission.id)
        if rest is None:
            raise NotFoundError(f"The checkpoint has no permission {after!r}.", param="after")
        return page(rest, limit, render_permission)

    @router.post("/{checkpoint:path}/permissions", response_model=answers.Page[answers.Permission])
    def grant(services: Opened, checkpoint: str, body: GrantPermissions) -> dict[str, Any]:
        """Permit a checkpoint to projects. For owners."""
        require(services.caller, Action.MANAGE_PROJECTS)
        _, found = checkpoints.by_name(services, checkpoint, param="checkpoint")
        for index, project_id in enumerate(body.project_ids):
            services.organisations.require_project(services.caller, project_id, param=f"project_ids.{index}")
        granted = services.checkpoint_permissions.grant(found.id, body.project_ids)
        return page(granted, len(granted), render_permission)

    @router.delete("/{checkpoint:path}/permissions/{permission_id}", response_model=answers.Deleted)
    def revoke(services: Opened, checkpoint: str, permission_id: str) -> dict[str, Any]:
        """Take a permission back. For owners."""
        require(services.caller, Action.MANAGE_PROJECTS)
        _, found = checkpoints.by_name(services, checkpoint, param="checkpoint")
        services.checkpoint_permissions.revoke(found.id, ids.permission_id(permission_id))
        return {"id": permission_id, "object": "checkpoint.permission", "deleted": True}

    return router
