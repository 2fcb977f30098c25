"""`tunesmith plan`."""

import typer

from tunesmith.cli.client import Client, Json
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command
from tunesmith.cli.output import data_json, duration, fields, say, size
from tunesmith.cli.submission import Described, read_request

_FITS = {
    "yes": "yes",
    "perhaps": "perhaps: the device may be too small",
    "no": "no",
    "unknown": "not known",
}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "plan", "tunesmith plan job.json", "tunesmith plan - <job.json")
    def plan(file: Described, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
        """Say what a job that a JSON file describes would cost: steps, memory, time and disk. Nothing is stored."""
        request = read_request(file)
        with Client(url) as client:
            planned = client.change("POST", "/jobs:plan", request)
        if as_json:
            data_json(planned)
        else:
            _show(planned)


def _show(planned: Json) -> None:
    for note in planned["notes"]:
        say(f"Note: {note}")
    for part in planned["remote"]:
        say(f"{part['field']} comes from {part['address']}.")
    plan = planned["plan"]
    if plan is None:
        say("There is no plan: not everything is on this server, or looking at it took too long.")
        return
    rows = plan["rows"]
    if rows["sampled"]:
        say(f"{rows['read']:,} rows were read; what the rows that take part come to is told from them.")
    fields([*_row_fields(rows), *_memory_fields(plan), *_other_fields(plan)])
    for way in plan["alternatives"]:
        say(f"This would fit: {way['change']} ({_bytes(way['memory'])}).")


def _row_fields(rows: Json) -> list[tuple[str, str]]:
    return [
        ("Rows", _count(rows["rows"])),
        ("Tokens an epoch", f"{_count(rows['tokens'])}, trained {_count(rows['trained_tokens'])}"),
        ("Tokens a row", f"{rows['mean']:,.0f} on average, {rows['longest']:,} at most"),
        ("Left out", _lines(rows["dropped"], rows["dropped_lines"])),
        ("Cut", _lines(rows["truncated"], rows["truncated_lines"])),
        ("Sequences", _count(rows["sequences"])),
        ("Steps", _count(rows["steps"])),
        ("Tokens of the job", _count(rows["job_tokens"])),
    ]


def _memory_fields(plan: Json) -> list[tuple[str, str]]:
    memory = plan["memory"]
    device = ("Device", f"{plan['device']}, {size(plan['device_memory'])}")
    trained = ("Parameters", f"{plan['parameters']:,}, trained {plan['trained_parameters']:,}")
    if memory is None:
        return [trained, device, ("Memory", f"not known: {plan['memory_note']}")]
    parts = ", ".join(f"{name} {size(count)}" for name, count in memory["parts"].items())
    passes = f"up to {memory['micro_batch_tokens']:,} tokens"
    again = ", activations computed again" if memory["gradient_checkpointing"] else ""
    return [
        trained,
        device,
        ("Memory", _bytes(memory)),
        ("  at most", parts),
        ("Passes", passes + again),
        ("Fits", _FITS[plan["fits"]]),
    ]


def _other_fields(plan: Json) -> list[tuple[str, str]]:
    time, disk = plan["time"], plan["disk"]
    checkpoints = _bytes(disk["checkpoints"])
    return [
        (
            "Time",
            f"not known: {plan['time_note']}"
            if time is None
            else f"{duration(time['low'])} to {duration(time['high'])}, as in {time['jobs']} earlier jobs",
        ),
        ("Disk", f"result {size(disk['artifact'])}, checkpoints {checkpoints}, base model {size(disk['base'])}"),
    ]


def _count(count: Json) -> str:
    return f"{count['low']:,}" if count["low"] == count["high"] else f"{count['low']:,} to {count['high']:,}"


def _bytes(span: Json) -> str:
    return f"{size(span['low'])} to {size(span['high'])}"


def _lines(count: int, lines: list[int]) -> str:
    return f"{count:,} (lines {', '.join(map(str, lines))})" if count else "0"
