"""Follow a job through its events until it has ended."""

import time
from collections.abc import Iterator
from typing import Any

import openai
from display import Display
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

_POLL_SECONDS = 1.0
_PAGE = 100


def follow(client: openai.OpenAI, job_id: str, display: Display) -> FineTuningJob:
    """Show the job's events as they come, and return the job once it has succeeded, failed or was cancelled."""
    seen: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)  # before its events, so that none of an ended job is missed
        for event in _fresh(client, job_id, seen):
            _show(event, display)
        display.update(_extra(job, "trained_steps"), _extra(job, "total_steps"), _extra(job, "estimated_finish"))
        if job.status in ("succeeded", "failed", "cancelled"):
            return job
        time.sleep(_POLL_SECONDS)


def _fresh(client: openai.OpenAI, job_id: str, seen: set[str]) -> Iterator[FineTuningJobEvent]:
    """Events that were not seen before, oldest first, in whichever order the server lists them."""
    fresh = [event for event in client.fine_tuning.jobs.list_events(job_id, limit=_PAGE) if event.id not in seen]
    if len(fresh) > 1 and (fresh[0].created_at, _step(fresh[0])) > (fresh[-1].created_at, _step(fresh[-1])):
        fresh.reverse()
    seen.update(event.id for event in fresh)
    yield from fresh


def _show(event: FineTuningJobEvent, display: Display) -> None:
    data = event.data if isinstance(event.data, dict) else {}
    if "train_loss" in data:
        display.step(data)
    elif "full_valid_loss" in data:
        display.validation(data)
    else:
        display.message(event.message, warning=event.level != "info")


def _step(event: FineTuningJobEvent) -> int:
    step = event.data.get("step") if isinstance(event.data, dict) else None
    return step if isinstance(step, int) else 0


def _extra(job: FineTuningJob, name: str) -> Any:
    """A field that not every version of the client knows."""
    return getattr(job, name, None)
