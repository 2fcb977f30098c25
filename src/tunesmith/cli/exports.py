"""`tunesmith models export`, `exports`, `push` and `pushes`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from tunesmith.cli.client import Client, Json
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Timeout, Url, command, group
from tunesmith.cli.download import download_to
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.cli.output import data, data_json, moment, say, size, table

app = group("Exports and pushes.")

_POLL_SECONDS = 0.5

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Id of a produced model.")]


@command(
    app,
    "export",
    "tunesmith models export ft:smollm2:local:support:3f0c9a5e --format gguf --quantization q8_0 -o support.gguf",
    "tunesmith models export ft:smollm2:local:support:3f0c9a5e --format merged",
)
def export(
    model: Model,
    format: Annotated[str, typer.Option(help="merged: safetensors, as ZIP. gguf: one file for llama.cpp.")] = "merged",
    quantization: Annotated[
        str | None, typer.Option(help="Of a GGUF file: f32, bf16, f16, q8_0, q5_1, q5_0, q4_1 or q4_0. [f16]")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of merged weights: float32, bfloat16 or float16. [that of the training]")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", "-o", metavar="FILE", help="File to write. [its own name, here]")
    ] = None,
    timeout: Timeout = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make another form of a model, wait until it is checked, and download it.

    The path is printed. The export stays on the server until `tunesmith models delete-export`.
    """
    path = f"/models/{quote(model)}/exports"
    with Client(url) as client:
        wish = {"format": format, "quantization": quantization, "dtype": dtype}
        made = client.change("POST", path, {name: value for name, value in wish.items() if value is not None})
        made = _awaited(client, f"{path}/{made['id']}", _export_standing, timeout)
        if made["state"] == "failed":
            raise CommandError(f"The export failed: {made['error']['message']}", hint=made["error"]["hint"])
        check = made["verification"]
        say(
            f"Checked over {check['positions']} places of {check['prompts']} prompts ({check['prompts_from']}): "
            f"{check['kl_divergence']:.2g} away from the trained model (allowed: {check['tolerance']:g}), "
            f"same first choice at {check['same_choice']:.1%}."
        )
        file = next((each["name"] for each in made["files"] if each["name"].endswith(".gguf")), None)
        target = to or Path(file or f"{made['id']}.zip")
        download_to(client, f"{path}/{made['id']}/" + (f"files/{quote(file)}" if file else "archive"), target)
    data_json({"export": made, "path": str(target)}) if as_json else data(str(target))


@command(app, "exports", "tunesmith models exports ft:smollm2:local:support:3f0c9a5e")
def list_exports(model: Model, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List a model's exports, newest first."""
    with Client(url) as client:
        found = client.listed(f"/models/{quote(model)}/exports")
    if as_json:
        data_json(found)
        return
    table(
        ("ID", "FORMAT", "NUMBERS", "STATE", "SIZE", "CREATED"),
        [
            (
                each["id"],
                each["format"],
                each["quantization"] or each["dtype"],
                each["state"],
                size(each["bytes"]) if each["bytes"] else "-",
                moment(each["created_at"]),
            )
            for each in found
        ],
        empty="No exports. Make one with `tunesmith models export`.",
    )


@command(app, "delete-export", "tunesmith models delete-export ft:smollm2:local:support:3f0c9a5e EXPORT")
def delete_export(
    model: Model,
    export: Annotated[str, typer.Argument(metavar="EXPORT", help="Id of the export.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Delete an export and its files."""
    with Client(url) as client:
        deleted = client.change("DELETE", f"/models/{quote(model)}/exports/{quote(export)}")
    data_json(deleted) if as_json else say(f"Export {deleted['id']} is deleted.")


@command(
    app,
    "push",
    "tunesmith models push ft:smollm2:local:support:3f0c9a5e --repo me/support --credentials hub --format adapter",
)
def push(
    model: Model,
    repo: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Repository on the hub; made if there is none.")],
    credentials: Annotated[str, typer.Option(metavar="NAME", help="Id or name of the stored token for the hub.")],
    format: Annotated[str, typer.Option(help="adapter, weights, or a ready export: merged or gguf.")],
    export: Annotated[str | None, typer.Option(metavar="ID", help="Which export. [the newest]")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    timeout: Timeout = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Send a model to a repository on the hub, and wait until it is there."""
    path = f"/models/{quote(model)}/pushes"
    with Client(url) as client:
        wish = {"repo": repo, "secret": credentials, "format": format, "private": not public}
        made = client.change("POST", path, {**wish, **({"export": export} if export else {})})
        made = _awaited(client, f"{path}/{made['id']}", _push_standing, timeout)
    if made["state"] == "failed":
        raise CommandError(f"The push failed: {made['error']['message']}", hint=made["error"]["hint"])
    data_json(made) if as_json else data(f"{made['repo']}@{made['commit']}")


@command(app, "pushes", "tunesmith models pushes ft:smollm2:local:support:3f0c9a5e")
def list_pushes(model: Model, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List a model's ways to the hub, newest first."""
    with Client(url) as client:
        found = client.listed(f"/models/{quote(model)}/pushes")
    if as_json:
        data_json(found)
        return
    table(
        ("ID", "REPOSITORY", "FORMAT", "STATE", "CREATED"),
        [(each["id"], each["repo"], each["format"], each["state"], moment(each["created_at"])) for each in found],
        empty="Nothing was pushed. Do it with `tunesmith models push`.",
    )


def _awaited(client: Client, path: str, standing: Callable[[Json], str], timeout: float | None) -> Json:
    """What lies at a path once it has ended. Every change is told.

    Raises:
        CommandError: it did not end in time.
    """
    deadline = time.monotonic() + timeout if timeout is not None else None
    told = ""
    while True:
        found = client.read(path)
        if found["state"] in ("ready", "done", "failed"):
            return found
        if (now := standing(found)) != told:
            say(told := now)
        if deadline is not None and time.monotonic() > deadline:
            raise CommandError(
                f"It did not end within {timeout:g} s; the server goes on.",
                hint="Look at it with `tunesmith models exports` or `tunesmith models pushes`.",
                code=ExitCode.TIMED_OUT,
            )
        time.sleep(_POLL_SECONDS)


def _export_standing(export: Json) -> str:
    progress = export["progress"]
    return f"{progress['stage']} {progress['done']}/{progress['total']}" if progress else str(export["state"])


def _push_standing(push: Json) -> str:
    if not push["bytes_total"]:
        return str(push["state"])
    return f"sent {size(push['bytes_done'])} of {size(push['bytes_total'])}"
