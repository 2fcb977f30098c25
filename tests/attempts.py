"""Attempts for tests: small jobs on the tiny model, run in this process."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import CheckpointSaved, Metrics, WorkerEvent
from tunesmith.spec.job import AttemptSpec
from tunesmith.worker import main

LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["all-linear"]}


def attempt(model: Path, train: Path, **changes: Any) -> AttemptSpec:
    """An attempt. Keyword arguments replace fields of the spec and of the attempt, wherever their name occurs."""
    source = {"kind": "file", "id": "file", "sha256": "0" * 64}
    spec: dict[str, Any] = {
        "model": {
            "base": "tiny",
            "dtype": "float32",
            "modality": "text",
            "task": "causal_lm",
            "quantization": None,
        },
        "init_from": None,
        "data": {
            "train": source,
            "validation": None,
            "max_length": 256,
            "over_long": "drop",
            "packing": False,
            "max_samples": None,
            "sample_ratio": 1.0,
            "reading": {},
            "split": None,
            "images": None,
        },
        "method": {"kind": "sft", "parameters": {}},
        "adapter": dict(LORA),
        "optimization": {
            "optimizer": "adamw",
            "learning_rate": 0.01,
            "schedule": "linear",
            "warmup_ratio": 0.1,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "decay_ratio": None,
            "neftune_noise_alpha": None,
            "epochs": 2.0,
            "max_steps": None,
            "batch_size": 4,
            "micro_batch_size": None,
            "gradient_checkpointing": None,
            "on_out_of_memory": "fail",
            "seed": 7,
        },
        "cadence": {
            "eval_steps": "epoch",
            "save_steps": "epoch",
            "keep_checkpoints": None,
            "log_steps": 1,
            "evaluate_first": False,
        },
        "selection": {"metric": "loss", "best": "lowest", "patience": None, "min_improvement": 0.0, "result": "last"},
        "sampling": None,
        "resources": None,
    }
    inputs = {"model": model, "train": train, "validation": None, "adapter": None}
    whole: dict[str, Any] = {
        "job_id": "job",
        "attempt": 1,
        "purpose": "train",
        "spec": spec,
        "inputs": inputs,
        "resume_from": [],
        "device": None,
        "rows": None,
        "classes": [],
    }
    if "validation" in changes:
        inputs["validation"] = changes.pop("validation")
    if "continue_from" in changes:
        inputs["adapter"] = changes.pop("continue_from")
    for name, value in changes.items():
        places = [part for part in (whole, spec, *spec.values()) if isinstance(part, dict) and name in part]
        assert places, name
        places[0][name] = value
    return AttemptSpec.model_validate(whole)


def run(order: AttemptSpec, folder: Path) -> tuple[int, list[WorkerEvent]]:
    """Carry out an attempt in a new folder."""
    directory = RunDirectory(folder)
    directory.write_spec(order)
    code = main(folder)
    return code, directory.read_events(0)[0]


def of_kind(events: Iterable[WorkerEvent], kind: type[Any]) -> list[Any]:
    """Events of one class."""
    return [event for event in events if isinstance(event, kind)]


def losses(events: Iterable[WorkerEvent]) -> list[float]:
    """Loss of each step."""
    return [event.loss for event in of_kind(events, Metrics)]


def checkpoint(events: Iterable[WorkerEvent], folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    saved = {event.step: event.path for event in of_kind(events, CheckpointSaved)}
    return folder / saved[step]


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def preferences(count: int) -> list[Any]:
    """Pairs of answers of different lengths."""
    return [
        {
            "prompt": row["messages"][:1],
            "chosen": row["messages"][1:],
            "rejected": [{"role": "assistant", "content": f"I do not know {number}." + " Sorry." * (number % 5)}],
        }
        for number, row in enumerate(chat(count))
    ]


def judged(count: int) -> list[Any]:
    """Answers, of which every third is bad."""
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if number % 3 else "rejected"], "label": number % 3 > 0}
        for number, row in enumerate(preferences(count))
    ]


def labelled(count: int) -> list[Any]:
    """Texts of three classes."""
    words = ("refund", "delivery", "password")
    return [
        {"text": f"Please help with my {words[number % 3]}." * (1 + number % 4), "label": number % 3}
        for number in range(count)
    ]


def chat(count: int) -> list[Any]:
    """Chat rows of different lengths."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"What comes after {number}?" + " Please." * (number % 4)},
                {"role": "assistant", "content": f"After {number} comes {number + 1}." * (1 + number % 3)},
            ]
        }
        for number in range(count)
    ]
