"""`tunesmith jobs submit` and `tunesmith jobs validate`."""

import json
from typing import Annotated, Any

import typer

from tunesmith.cli.client import Client, Json
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.cli.output import data, data_json, say
from tunesmith.cli.watching import describe

app = group("Submission.")

Described = Annotated[
    typer.FileText, typer.Argument(metavar="FILE", help="A request of `POST /tunesmith/v1/jobs`; - is stdin.")
]


@command(app, "submit", "tunesmith jobs submit job.json", "tunesmith jobs submit - <job.json")
def submit(file: Described, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Submit a job that a JSON file describes, and print its id."""
    request = read_request(file)
    with Client(url) as client:
        job = client.change("POST", "/jobs", request)
    describe(job)
    data_json(job) if as_json else data(job["id"])


@command(app, "validate", "tunesmith jobs validate job.json", "tunesmith jobs validate - <job.json")
def validate(file: Described, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Say whether a job that a JSON file describes would be accepted, and print its whole spec. Nothing is stored."""
    request = read_request(file)
    with Client(url) as client:
        validation = client.change("POST", "/jobs:validate", request)
    if as_json:
        data_json(validation)
        return
    for note in validation["notes"]:
        say(f"Note: {note}")
    for part in validation["remote"]:
        say(f"{part['field']} comes from {part['address']}.")
    say("The job would be accepted.")
    data_json(validation["spec"])


def read_request(file: typer.FileText) -> Json:
    """The object that a JSON file holds.

    Raises:
        CommandError: it holds something else.
    """
    try:
        request: Any = json.load(file)
    except ValueError as error:  # no JSON, or no UTF-8
        raise CommandError(f"{file.name} is not JSON: {error}.", code=ExitCode.USAGE) from error
    if not isinstance(request, dict):
        raise CommandError(f"{file.name} holds no JSON object.", code=ExitCode.USAGE)
    return request
