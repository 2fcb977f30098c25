"""What a job trains, token by token."""

from fastapi import APIRouter

from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.spec.receipt import Receipt


def routes() -> APIRouter:
    """The endpoint of receipts."""
    router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], route_class=StrictRoute)

    @router.get("/receipt", summary="Get the mask receipt")
    def retrieve(services: Opened, job_id: str) -> Receipt:
        """What the job trains, read off the tokens and masks that it uses. It is there once its rows are prepared."""
        return services.jobs.receipt(job_id)

    return router
