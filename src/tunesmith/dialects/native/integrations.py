"""Whom a job tells, and how that fares."""

from fastapi import APIRouter

from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import Listing
from tunesmith.integrations._door import Standing


def routes() -> APIRouter:
    """The endpoint of a job's integrations."""
    router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], route_class=StrictRoute)

    @router.get("/integrations", summary="List a job's integrations")
    def list_integrations(services: Opened, job_id: str) -> Listing[Standing]:
        """The services that are told of the job, each with where to look and why it was not told, if it was not.
        Webhooks of the organisation are not among them."""
        return Listing(data=services.integrations.of_job(services.jobs.get(job_id).id))

    return router
