"""What a job's model answered to its prompts."""

from fastapi import APIRouter

from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import Page, SampleAnswer
from tunesmith.dialects.native.paging import After, Limit, page
from tunesmith.dialects.native.render import to_sample
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.store.events import Event


def routes() -> APIRouter:
    """The endpoint of samples."""
    router = APIRouter(prefix="/jobs/{job_id}", tags=["events and metrics"], route_class=StrictRoute)

    @router.get("/samples", summary="List samples")
    def samples(services: Opened, job_id: str, limit: Limit = 100, after: After = None) -> Page[SampleAnswer]:
        """What the model answered to the prompts of `sampling`, by step and prompt, the base model's answer beside. Of
        steps that were run again after a crash, the last run counts."""
        events = services.jobs.events(job_id, kinds=("sampled",))
        behind = _behind(events, after)
        latest = {_place(event): event for event in events}
        return page([latest[place] for place in sorted(latest) if place > behind][: limit + 1], limit, to_sample)

    return router


def _behind(events: list[Event], after: str | None) -> tuple[int, int]:
    """Step and prompt of the sample with this id, also of one that a later run has replaced."""
    if after is None:
        return (-1, -1)
    found = next((event for event in events if event.id == after), None)
    if found is None:
        raise InvalidRequestError(f"The job has no sample {after!r}.", param="after")
    return _place(found)


def _place(event: Event) -> tuple[int, int]:
    return event.data["step"], event.data["number"]
