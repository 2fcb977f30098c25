"""`tunesmith jobs metrics`, `samples`, `sample-sheet`, `artifacts`, `download` and `recipe`."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from tunesmith.cli.client import Client, job_id
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.download import download_to
from tunesmith.cli.jobs import Id
from tunesmith.cli.output import data, data_json, size, table

app = group("Results.")

_COLUMN_CHARACTERS = 48


@command(app, "metrics", "tunesmith jobs metrics 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615 --limit 100")
def metrics(
    id: Id,
    limit: Annotated[int, typer.Option(min=2, max=100_000, help="Most points of a curve, evenly chosen.")] = 20,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print the losses of training and validation by step."""
    with Client(url) as client:
        found = client.read(f"/jobs/{job_id(id)}/metrics", {"limit": limit})
    if as_json:
        data_json(found)
        return
    points = [*(("training", point) for point in found["training"])]
    points += [("validation", point) for point in found["validation"]]
    table(
        ("STEP", "CURVE", "LOSS", "ACCURACY", "RATE", "TOKENS/S"),
        [
            (
                str(point["step"]),
                curve,
                f"{point['loss']:.4f}",
                _number(point["token_accuracy"], ".3f"),
                _number(point.get("learning_rate"), ".3g"),
                _number(point.get("tokens_per_second"), ",.0f"),
            )
            for curve, point in sorted(points, key=lambda each: int(each[1]["step"]))
        ],
        empty="No loss was reported yet.",
    )


@command(app, "samples", "tunesmith jobs samples 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615", "tunesmith jobs samples ID --json")
def samples(
    id: Id,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most answers to show.")] = 1000,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print what the model answered to the job's prompts, by step, and the base model's answers beside."""
    with Client(url) as client:
        found = client.listed(f"/jobs/{job_id(id)}/samples", {"limit": limit})
    if as_json:
        data_json(found)
        return
    table(
        ("STEP", "PROMPT", "ANSWER", "BASE"),
        [
            (str(each["step"]), *(_excerpt(each[name]) for name in ("prompt", "text", "base")))
            if each["text"] is not None
            else (str(each["step"]), _excerpt(each["prompt"]), each["file"], "-")
            for each in found
        ],
        empty="The model was not asked anything yet. Name prompts as `spec.sampling` of a job.",
    )


@command(app, "sample-sheet", "tunesmith jobs sample-sheet 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615 --to sheet.png")
def sample_sheet(
    id: Id,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. [the job's ID with .png, here]")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Download the pictures that a model drew, all on one PNG: a row for each prompt, a column for each step."""
    known = job_id(id)
    target = to or Path(f"{known}.png")
    with Client(url) as client:
        count = download_to(client, f"/jobs/{known}/sample-sheet", target)
    data_json({"path": str(target), "bytes": count}) if as_json else data(str(target))


@command(app, "artifacts", "tunesmith jobs artifacts 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615")
def artifacts(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the files that a job left: model, checkpoints, table of metrics and logs."""
    with Client(url) as client:
        found = client.listed(f"/jobs/{job_id(id)}/artifacts")
    if as_json:
        data_json(found)
        return
    table(
        ("NAME", "SIZE", "SHA-256"),
        [(each["name"], size(each["bytes"]), each["sha256"] or "-") for each in found],
        empty="The job has left no files yet.",
    )


@command(
    app,
    "download",
    "tunesmith jobs download 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615",
    "tunesmith jobs download ID --artifact model/adapter_model.safetensors --to adapter.safetensors",
)
def download(
    id: Id,
    artifact: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of the job's artifacts. [model, metrics and logs as ZIP]")
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write. [its own name, here]")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Download what a job left, and print the file's path. A file that exists is left alone."""
    known = job_id(id)
    path = f"/jobs/{known}/artifacts/{quote(artifact)}" if artifact else f"/jobs/{known}/archive"
    target = to or Path(Path(artifact).name if artifact else f"{known}.zip")
    with Client(url) as client:
        count = download_to(client, path, target)
    data_json({"path": str(target), "bytes": count}) if as_json else data(str(target))


@command(
    app,
    "recipe",
    "tunesmith jobs recipe 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615 --format axolotl > axolotl.yaml",
)
def recipe(
    id: Id,
    format: Annotated[str, typer.Option(help="axolotl, llamafactory, ms-swift or trl.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print a file that trains the same with another tool. Comments name what that tool cannot be told."""
    with Client(url) as client:
        text = client.text(f"/jobs/{job_id(id)}/recipe", {"format": format})
    data_json({"format": format, "text": text}) if as_json else data(text.rstrip())


def _number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _excerpt(text: str | None) -> str:
    """The beginning of a text in one line; the whole is in the JSON."""
    line = "-" if text is None else " ".join(text.split())
    return line if len(line) <= _COLUMN_CHARACTERS else f"{line[: _COLUMN_CHARACTERS - 1]}…"
