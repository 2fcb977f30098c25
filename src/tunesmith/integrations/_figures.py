"""What trackers are told of a job's training: figures by the names that TRL gives them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from tunesmith.store import events
from tunesmith.store.events import Event

KINDS = ("metrics", "evaluated", "sampled")
"""Kinds of events with a step, each of which is told once for a step."""

_TRAIN = {
    "loss": "train/loss",
    "token_accuracy": "train/mean_token_accuracy",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "epoch": "train/epoch",
    "tokens_total": "train/num_tokens",
    "tokens_per_second": "train/tokens_per_second",
    "memory_bytes": "train/memory_bytes",
}
_EVAL = {"loss": "eval/loss", "token_accuracy": "eval/mean_token_accuracy"}

_NOWHERE = (-1, -1)


@dataclass(frozen=True)
class Figures:
    """Those of one event."""

    step: int
    at: float
    """Seconds since the epoch."""

    values: dict[str, float]


def figures_of(event: Event) -> Figures | None:
    """The figures of an event; none if it has none."""
    if event.kind == "metrics":
        values = _named(event.data, _TRAIN, "train")
    elif event.kind == "evaluated":
        values = _named(event.data, _EVAL, "eval")
    else:
        return None
    return Figures(event.data["step"], event.at, values)


def told_once(connection: Connection, found: Sequence[Event]) -> list[Event]:
    """Events without those of steps that an earlier attempt told of: after a crash some steps are done again, and what
    a tracker has it cannot take back."""
    furthest: dict[tuple[int, str], tuple[int, int]] = {}
    kept = []
    for event in found:
        if event.kind in KINDS and event.attempt is not None and event.attempt > 1:
            known = (event.attempt, event.kind)
            if known not in furthest:
                before = events.furthest(connection, event.job_id, event.kind, before=event.attempt)
                furthest[known] = before or _NOWHERE
            if (event.data["step"], event.data.get("number", 0)) <= furthest[known]:
                continue
        kept.append(event)
    return kept


def _named(data: dict[str, Any], names: dict[str, str], group: str) -> dict[str, float]:
    values = {name: float(data[key]) for key, name in names.items() if data.get(key) is not None}
    return values | {f"{group}/{key}": float(value) for key, value in (data.get("extra") or {}).items()}
