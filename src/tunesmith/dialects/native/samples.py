"""What a job's model answered to its prompts: texts, or pictures."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from tunesmith.data.sample_sheet import sample_sheet
from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import NOT_ONLY_JSON, Page, SampleAnswer
from tunesmith.dialects.native.artifacts import NOSNIFF
from tunesmith.dialects.native.paging import After, Limit, page
from tunesmith.dialects.native.render import to_sample
from tunesmith.spec.errors import InvalidRequestError, NotFoundError
from tunesmith.store.events import Event

_PNG = "image/png"

_STEPS_SHOWN = 16
"""Columns of a sheet: with many more it would be too large to be looked at, and to be made."""

_PICTURE: dict[int | str, dict[str, Any]] = {
    **NOT_ONLY_JSON,
    200: {"description": "A PNG file.", "content": {_PNG: {"schema": {"type": "string", "format": "binary"}}}},
}


def routes() -> APIRouter:
    """The endpoints of samples."""
    router = APIRouter(prefix="/jobs/{job_id}", tags=["events and metrics"], route_class=StrictRoute)

    @router.get("/samples", summary="List samples")
    def samples(services: Opened, job_id: str, limit: Limit = 100, after: After = None) -> Page[SampleAnswer]:
        """What the model answered to the prompts of `sampling`, by step and prompt, the base model's answer beside. Of
        steps that were run again after a crash, the last run counts."""
        events = services.jobs.events(job_id, kinds=("sampled",))
        behind = _behind(events, after)
        found = [event for event in _latest(events) if _place(event) > behind]
        return page(found[: limit + 1], limit, to_sample)

    @router.get(
        "/samples/{sample_id}/picture",
        summary="Get a sample's picture",
        response_class=FileResponse,
        responses=_PICTURE,
    )
    def picture(services: Opened, job_id: str, sample_id: str) -> Response:
        """The picture that the model drew of a prompt, as PNG."""
        for event in services.jobs.events(job_id, kinds=("sampled",)):
            path = services.jobs.sample_picture(job_id, event)
            if event.id == sample_id and path is not None:
                return Response(path.read_bytes(), media_type=_PNG, headers=NOSNIFF)
        raise NotFoundError(
            f"The job has no picture of a sample {sample_id!r}.", param="sample_id", hint="List its samples."
        )

    @router.get("/sample-sheet", summary="Get all samples on a sheet", response_class=Response, responses=_PICTURE)
    def sheet(services: Opened, job_id: str) -> Response:
        """The pictures that the model drew, on one sheet as PNG: a row for each prompt, a column for each step; of many
        steps the first, the last and some between."""
        return Response(_sheet(services, job_id), media_type=_PNG, headers=NOSNIFF)

    return router


def _sheet(services: Services, job_id: str) -> bytes:
    drawn = {
        (event.data["number"], event.data["step"]): path
        for event in _latest(services.jobs.events(job_id, kinds=("sampled",)))
        if (path := services.jobs.sample_picture(job_id, event)) is not None
    }
    if not drawn:
        raise NotFoundError(
            "The job's model has drawn no picture.", param="job_id", hint="Jobs on pictures with `sampling` draw some."
        )
    sampling = services.jobs.get(job_id).spec.sampling
    assert sampling is not None  # it has drawn
    steps = _spread(sorted({step for _, step in drawn}))
    shown = {place: path for place, path in drawn.items() if place[1] in steps}
    return sample_sheet([str(prompt) for prompt in sampling.prompts], shown)


def _spread(steps: list[int]) -> set[int]:
    """The first step, the last one, and some evenly between."""
    if len(steps) <= _STEPS_SHOWN:
        return set(steps)
    return {steps[round(place * (len(steps) - 1) / (_STEPS_SHOWN - 1))] for place in range(_STEPS_SHOWN)}


def _latest(events: list[Event]) -> list[Event]:
    """By step and prompt, the last one of each."""
    latest = {_place(event): event for event in events}
    return [latest[place] for place in sorted(latest)]


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
