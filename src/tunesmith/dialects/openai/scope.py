"""Organisations and projects that a request names. On an open server they are mere labels."""

from typing import Annotated

from fastapi import Depends, Header, Query

from tunesmith.access import boundaries
from tunesmith.dialects import Opened
from tunesmith.spec.errors import InvalidRequestError


def require_own(
    services: Opened,
    openai_organization: Annotated[str | None, Header(max_length=128)] = None,
    openai_project: Annotated[str | None, Header(max_length=128)] = None,
) -> None:
    """See that the organisation and the project that the client's headers name are the caller's.

    Raises:
        OrganisationNotFoundError: it is another organisation, or none.
        ProjectNotFoundError: it is another organisation's project, or none, or not the caller's only one.
    """
    if openai_organization:
        boundaries.require_own(services.caller, openai_organization, param="OpenAI-Organization")
    if openai_project:
        services.organisations.require_project(services.caller, openai_project, param="OpenAI-Project")


def _project(
    services: Opened,
    ai_project_id: Annotated[str | None, Query(max_length=64, description="Project to work in.")] = None,
    openai_project: Annotated[str | None, Header(max_length=64)] = None,
) -> str | None:
    if ai_project_id and openai_project and ai_project_id != openai_project:
        raise InvalidRequestError(
            f"ai_project_id is {ai_project_id!r}, and the header OpenAI-Project names {openai_project!r}.",
            param="ai_project_id",
            hint="Name one project.",
        )
    if ai_project_id:
        services.organisations.require_project(services.caller, ai_project_id, param="ai_project_id")
    return ai_project_id or openai_project or None


Project = Annotated[str | None, Depends(_project)]
"""The project that a request names, by Nebius's query or OpenAI's header."""
