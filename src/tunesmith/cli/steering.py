"""`tunesmith jobs pause`, `resume` and `priority`."""

from enum import StrEnum
from typing import Annotated

import typer

from tunesmith.cli.client import Client, Json, job_id
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.jobs import PRIORITIES, Id
from tunesmith.cli.output import data_json, say

app = group("Steering.")


class Priority(StrEnum):
    """Places in the queue, from the last to the first."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


@command(app, "pause", "tunesmith jobs pause 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615")
def pause(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Save a job's state and give its device back."""
    with Client(url) as client:
        _tell(client.change("POST", f"/jobs/{job_id(id)}/pause"), as_json)


@command(app, "resume", "tunesmith jobs resume 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615")
def resume(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Let a paused job go on where it stopped."""
    with Client(url) as client:
        _tell(client.change("POST", f"/jobs/{job_id(id)}/resume"), as_json)


@command(app, "priority", "tunesmith jobs priority 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615 high")
def prioritise(
    id: Id,
    priority: Annotated[Priority, typer.Argument(metavar="PRIORITY", help="low, normal, high or urgent.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Move a job forward or back in the queue."""
    with Client(url) as client:
        body = {"priority": PRIORITIES.index(priority)}
        _tell(client.change("PUT", f"/jobs/{job_id(id)}/priority", body), as_json)


def _tell(job: Json, as_json: bool) -> None:
    if as_json:
        data_json(job)
    else:
        say(f"Job {job['id']} is {job['state']}, priority {PRIORITIES[job['priority']]}.")
