"""`tunesmith jobs`."""

from typing import Annotated

import typer

from tunesmith.cli.client import Client, Json, job_id
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Timeout, Url, command, group
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.cli.output import data, data_json, fields, moment, printable, say, table
from tunesmith.cli.watching import describe, watch

Id = Annotated[str, typer.Argument(metavar="ID", help="A job's id: 32 digits, ftjob-…, or a UUID.")]

app = group("Jobs, whichever API they came by.")

PRIORITIES = ("low", "normal", "high", "urgent")
"""Words for the numbers of the API."""


@command(app, "list", "tunesmith jobs list", "tunesmith jobs list --state running --label team=search --json")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most jobs to show.")] = 20,
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Only jobs in this state.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only jobs with this label.")] = None,
    project: Annotated[str | None, typer.Option(metavar="ID", help="Only jobs of this project.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs."""
    only = {"state": state, "project": project, **_labels(label or [])}
    with Client(url) as client:
        found = client.listed("/jobs", {"limit": limit, **{name: value for name, value in only.items() if value}})
    if as_json:
        data_json(found)
        return
    table(
        ("ID", "STATE", "STEP", "BASE", "CREATED", "MODEL"),
        [
            (
                job["id"],
                job["state"],
                _steps(job),
                job["spec"]["model"]["base"],
                moment(job["created_at"]),
                job["model"] or "-",
            )
            for job in found
        ],
        empty="No jobs yet. Create one with `tunesmith train FILE --model NAME`.",
    )


@command(app, "get", "tunesmith jobs get 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615")
def get(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show one job."""
    with Client(url) as client:
        job = client.job(job_id(id))
    if as_json:
        data_json(job)
        return
    error = job["error"] or {}
    fields(
        [
            ("ID", job["id"]),
            ("State", job["state"]),
            ("Priority", PRIORITIES[job["priority"]]),
            ("Step", _steps(job)),
            ("Base", job["spec"]["model"]["base"]),
            ("Created", moment(job["created_at"])),
            ("Started", moment(job["started_at"])),
            ("Finished", moment(job["finished_at"])),
            ("Model", job["model"] or "-"),
            ("Tracking", job["tracking_url"] or "-"),
            *(("Resumed", _resume(resume)) for resume in job["resumes"]),
            ("Error", " ".join(filter(None, (error.get("message"), error.get("hint")))) or "-"),
            *(("Note", note) for note in job["notes"]),
        ]
    )


@command(app, "watch", "tunesmith jobs watch 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615")
def watch_job(id: Id, timeout: Timeout = None, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Follow a job to its end.

    Exits with 0 if it succeeded and with 1 if it failed or was cancelled. Ctrl-C detaches and exits with 130; it never
    cancels the job.
    """
    with Client(url) as client:
        known = job_id(id)
        describe(client.job(known))
        watch(client, known, timeout=timeout, as_json=as_json)


@command(app, "logs", "tunesmith jobs logs 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615", "tunesmith jobs logs --plot ID")
def logs(
    id: Id,
    worker: Annotated[bool, typer.Option("--worker", help="Print what the worker process wrote.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the loss.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print what happened to a job, oldest first."""
    if worker + plot + as_json > 1:
        raise CommandError("Choose one of --worker, --plot and --json.", code=ExitCode.USAGE)
    known = job_id(id)
    with Client(url) as client:
        if worker:
            for piece in client.log(known):
                print(piece, end="")
            return
        events = client.events(known)
    if as_json:
        data_json(events)
    elif plot:
        _plot(events)
    else:
        for event in events:
            data(f"{moment(event['at'])}  {event['level']:<5}  {printable(event['message'])}")


@command(app, "cancel", "tunesmith jobs cancel 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615")
def cancel(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Cancel a job. Its checkpoints stay."""
    with Client(url) as client:
        job = client.change("POST", f"/jobs/{job_id(id)}/cancel")
    if as_json:
        data_json(job)
    else:
        say(f"Job {job['id']} is {job['state']}.")


def _labels(pairs: list[str]) -> dict[str, str]:
    wanted = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise CommandError(f"--label {pair!r} is not of the form KEY=VALUE.", code=ExitCode.USAGE)
        wanted[f"labels[{key}]"] = value
    return wanted


def _steps(job: Json) -> str:
    return f"{job['step'] or 0}/{job['total_steps']}" if job["total_steps"] else "-"


def _resume(resume: Json) -> str:
    where = "from the first step" if resume["exactness"] == "restarted" else f"from step {resume['step']}"
    return "; ".join([f"{moment(resume['at'])}, {where}, {resume['exactness']}", *resume["differences"]])


def _plot(events: list[Json]) -> None:
    from tunesmith.cli.plotting import loss_curve

    curve = loss_curve(events)
    if curve is None:
        say("No loss was reported yet.")
    else:
        data(curve)
