"""Follows a job to its end by asking the server again and again."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith.cli.client import Client, Json
from tunesmith.cli.faults import UnreachableError
from tunesmith.cli.outcome import CommandError, ExitCode

ENDED = ("succeeded", "failed", "cancelled")
"""States in which nothing more happens to a job."""

_POLL_SECONDS = 0.5
# A server that restarts is back within this time; the training goes on meanwhile.
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Standing:
    """Where a job stands, ready to be shown."""

    state: str
    step: int
    total_steps: int | None
    epoch: float | None
    loss: float | None
    tokens_per_second: float | None
    eta_seconds: float | None

    @property
    def percent(self) -> int:
        """Finished steps of 100."""
        return self.step * 100 // self.total_steps if self.total_steps else 0


@dataclass(frozen=True)
class Update:
    """What one look brought."""

    job: Json
    events: tuple[Json, ...]
    """Those that are new."""

    standing: Standing


def follow(client: Client, id: str, *, timeout: float | None) -> Iterator[Update]:
    """Every change of a job until it ends. The last update holds the ended job.

    Raises:
        CommandError: the job did not end in time, or the server was away for too long.
    """
    now = time.monotonic()
    deadline = now + timeout if timeout is not None else None
    last: str | None = None
    metrics: Json = {}
    reached = now
    while True:
        try:
            # The job first: once it has ended, the events asked for afterwards are complete.
            job = client.job(id)
            events = client.events(id, after=last)
        except UnreachableError:
            if time.monotonic() - reached > _PATIENCE_SECONDS:
                raise
        else:
            reached = time.monotonic()
            last = events[-1]["id"] if events else last
            metrics = _newest_metrics(events) or metrics
            standing = standing_at(job["state"], {"total_steps": job["total_steps"], **metrics, "step": job["step"]})
            yield Update(job=job, events=tuple(events), standing=standing)
            if job["state"] in ENDED:
                return
        if deadline is not None and time.monotonic() > deadline:
            raise CommandError(
                f"The job did not end within {timeout:g} s; it goes on.",
                hint=f"Come back with `{come_back(client, id)}`.",
                code=ExitCode.TIMED_OUT,
            )
        time.sleep(_POLL_SECONDS)


def come_back(client: Client, id: str) -> str:
    """The command that goes on watching."""
    from tunesmith.cli.commands import DEFAULT_URL

    elsewhere = "" if client.url == DEFAULT_URL else f" --url {client.url}"
    return f"tunesmith jobs watch {id}{elsewhere}"


def standing_at(state: str, metrics: Json) -> Standing:
    """Where a job stood when its worker reported these metrics."""
    return Standing(
        state=state,
        step=metrics.get("step") or 0,
        total_steps=metrics.get("total_steps"),
        epoch=metrics.get("epoch"),
        loss=metrics.get("loss"),
        tokens_per_second=metrics.get("tokens_per_second"),
        eta_seconds=metrics.get("eta_seconds"),
    )


def _newest_metrics(events: list[Json]) -> Json | None:
    return next((event["data"] for event in reversed(events) if event["kind"] == "metrics"), None)
