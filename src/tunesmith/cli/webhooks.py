"""`tunesmith webhooks`: receivers that the server tells of jobs, over the API of a running server."""

import sys
from typing import Annotated
from urllib.parse import quote

import typer

from tunesmith.cli.client import Client, Json, job_id
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.cli.output import data, data_json, fields, moment, say, table

app = group("Receivers that are told of jobs, and what they were told.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the webhook.")]
DeliveryId = Annotated[str, typer.Argument(metavar="ID", help="Id of the delivery.")]
Event = Annotated[
    list[str] | None,
    typer.Option("--event", metavar="NAME", help="Tell of this event; repeat it for more. [the ends of jobs]"),
]

_EXAMPLE = "0123456789abcdef0123456789abcdef"


@command(
    app,
    "create",
    "tunesmith webhooks create https://hooks.example.org/tunesmith",
    "tunesmith webhooks create - --event fine_tuning.job.failed < url.txt",
)
def create(
    receiver: Annotated[str, typer.Argument(metavar="ADDRESS", help="URL to post to; - reads it from stdin.")],
    event: Event = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    project: Annotated[str | None, typer.Option(metavar="ID", help="Tell of this project's jobs only.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Tell a receiver of jobs from now on, and print its signing secret, once.

    Other users of a machine can read command lines: a URL that holds a password is better read from stdin.
    """
    request: Json = {"url": _read(receiver), "description": description, "project": project}
    with Client(url) as client:
        made = client.change("POST", "/webhooks", {**request, **({"events": event} if event else {})})
    _show_once(made, as_json)


@command(app, "list", "tunesmith webhooks list")
def list_webhooks(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List webhooks, oldest first."""
    with Client(url) as client:
        found = client.listed("/webhooks")
    if as_json:
        data_json(found)
        return
    rows = [(each["id"], each["address"], ", ".join(each["events"]), _state(each)) for each in found]
    table(("ID", "ADDRESS", "EVENTS", "STATE"), rows, empty="No webhooks. Create one with `tunesmith webhooks create`.")


@command(app, "get", f"tunesmith webhooks get {_EXAMPLE}")
def get(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show one webhook."""
    with Client(url) as client:
        found = client.read(_path(id))
    if as_json:
        data_json(found)
        return
    fields(
        [
            ("ID", found["id"]),
            ("Address", found["address"]),
            ("Events", ", ".join(found["events"])),
            ("Description", found["description"] or "-"),
            ("Project", found["project"] or "-"),
            ("State", _state(found)),
            ("Created", moment(found["created_at"])),
        ]
    )


@command(
    app,
    "change",
    f"tunesmith webhooks change {_EXAMPLE} --event fine_tuning.job.failed",
    f"tunesmith webhooks change {_EXAMPLE} --enable",
)
def change(
    id: Id,
    receiver: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Another URL; - reads it from stdin.")
    ] = None,
    event: Event = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Tell it of what happens from now on, or of nothing.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Change where a webhook leads and what it is told of."""
    asked = {
        "url": _read(receiver) if receiver else None,
        "events": event or None,
        "description": description,
        "enabled": enabled,
    }
    with Client(url) as client:
        changed = client.change("PATCH", _path(id), {name: value for name, value in asked.items() if value is not None})
    if as_json:
        data_json(changed)
    else:
        say(f"Webhook {changed['id']} leads to {changed['address']}; it is {_state(changed)}.")


@command(app, "delete", f"tunesmith webhooks delete {_EXAMPLE}")
def delete(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Tell a webhook of nothing any more."""
    with Client(url) as client:
        deleted = client.change("DELETE", _path(id))
    if as_json:
        data_json(deleted)
    else:
        say(f"Webhook {deleted['id']} is deleted.")


@command(app, "rotate", f"tunesmith webhooks rotate {_EXAMPLE}")
def rotate(
    id: Id,
    overlap: Annotated[
        int, typer.Option(min=0, max=7 * 24, metavar="HOURS", help="For how long the former secret signs as well.")
    ] = 24,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make another signing secret and print it, once."""
    with Client(url) as client:
        made = client.change("POST", f"{_path(id)}/rotate-secret", {"overlap_seconds": overlap * 3600})
    _show_once(made, as_json)


@command(app, "test", f"tunesmith webhooks test {_EXAMPLE}")
def try_out(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Post a message that tells of nothing, and show what the receiver answers. Exits with 1 if it does not take it."""
    with Client(url) as client:
        _tell_try(client.change("POST", f"{_path(id)}/test"), as_json)


@command(app, "deliveries", "tunesmith webhooks deliveries", "tunesmith webhooks deliveries --job ftjob-…")
def deliveries(
    webhook: Annotated[str | None, typer.Option(metavar="ID", help="Only those of this webhook.")] = None,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only those about this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most deliveries to show.")] = 20,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List what receivers were told, newest first."""
    only = {"webhook": webhook, "job": job_id(job) if job else None}
    with Client(url) as client:
        params = {name: value for name, value in only.items() if value}
        found = client.listed("/webhook-deliveries", {"limit": limit, **params})
    if as_json:
        data_json(found)
        return
    rows = [
        (each["id"], moment(each["created_at"]), each["event"], each["state"], str(len(each["attempts"])), _last(each))
        for each in found
    ]
    table(("ID", "CREATED", "EVENT", "STATE", "TRIES", "LAST ANSWER"), rows, empty="No deliveries.")


@command(app, "redeliver", f"tunesmith webhooks redeliver {_EXAMPLE}")
def redeliver(id: DeliveryId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Post a message once more, now. Exits with 1 if the receiver does not take it."""
    with Client(url) as client:
        _tell_try(client.change("POST", f"/webhook-deliveries/{quote(id, safe='')}/redeliver"), as_json)


def _path(id: str) -> str:
    return f"/webhooks/{quote(id, safe='')}"


def _read(receiver: str) -> str:
    return sys.stdin.readline().strip() if receiver == "-" else receiver


def _state(webhook: Json) -> str:
    return "enabled" if webhook["enabled"] else f"disabled: {webhook['disabled_because']}"


def _last(delivery: Json) -> str:
    if not delivery["attempts"]:
        return "-"
    last = delivery["attempts"][-1]
    return last["error"] or str(last["status"])


def _show_once(webhook: Json, as_json: bool) -> None:
    say(f"Webhook {webhook['id']}. Keep its signing secret now: it is not shown again.")
    data_json(webhook) if as_json else data(webhook["secret"])


def _tell_try(delivery: Json, as_json: bool) -> None:
    last = delivery["attempts"][-1]
    if as_json:
        data_json(delivery)
    if last["error"] is not None:
        raise CommandError(last["error"], hint=last["answer"] or None, code=ExitCode.FAILURE)
    if not as_json:
        say(f"The receiver answered {last['status']} after {last['seconds']:.2f} s.")
