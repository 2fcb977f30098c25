"""`tunesmith train`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.cli.client import Client
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Timeout, Url, command
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.cli.output import data, data_json, say
from tunesmith.cli.watching import describe, watch

_Rows = typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE", help="Training rows, JSON lines.")


class Dtype(StrEnum):
    """Number formats."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


# Beside any of these the server takes an absolute learning rate, and trains all weights unless told otherwise.
_ABSOLUTE = frozenset({"learning_rate", "lora_r", "lora_alpha", "context_length", "packing"})


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(
        app,
        "train",
        "tunesmith train support.jsonl --model smollm2",
        "tunesmith train support.jsonl --model smollm2 --validation held_out.jsonl --epochs 3 --learning-rate 1e-4",
    )
    def train(  # noqa: PLR0913 - an argument an option
        *,
        file: Annotated[Path, _Rows],
        model: Annotated[str, typer.Option(help="Base model, see `tunesmith models list`.")],
        validation: Annotated[
            Path | None, typer.Option(exists=True, dir_okay=False, readable=True, help="Rows to score, never trained.")
        ] = None,
        epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the rows.")] = None,
        batch_size: Annotated[int | None, typer.Option(min=1, help="Rows per optimizer step.")] = None,
        learning_rate: Annotated[float | None, typer.Option(help="Peak rate, such as 1e-4.")] = None,
        lora: Annotated[
            bool | None, typer.Option("--lora/--full", help="Train an adapter (unless said), or all weights.")
        ] = None,
        rank: Annotated[int | None, typer.Option(min=1, help="Rank of the adapter.")] = None,
        alpha: Annotated[int | None, typer.Option(min=1, help="Scale of the adapter: alpha / rank.")] = None,
        max_length: Annotated[int | None, typer.Option(min=1, help="Most tokens of a row.")] = None,
        packing: Annotated[
            bool | None, typer.Option("--packing/--no-packing", help="Count packed sequences as a batch, or rows.")
        ] = None,
        dtype: Annotated[Dtype | None, typer.Option(help="Number format of the arithmetic.")] = None,
        suffix: Annotated[str | None, typer.Option(help="Your part of the produced model's name.")] = None,
        seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same order of rows.")] = None,
        detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and do not wait.")] = False,
        timeout: Timeout = None,
        url: Url = DEFAULT_URL,
        as_json: AsJson = False,
    ) -> None:
        """Fine-tune a model on a file and wait for the result.

        Prints the produced model and its folder. What is not given, the server chooses, and the first line tells.
        With --learning-rate, --rank, --alpha, --max-length, --packing or --full, the other settings follow the
        defaults of absolute learning rates (1e-5, rank 8, alpha 8, batch size 8, 3 epochs).

        Ctrl-C detaches and exits with 130; it never cancels the job.
        """
        if lora is False and (rank is not None or alpha is not None):
            raise CommandError("--rank and --alpha belong to an adapter; --full has none.", code=ExitCode.USAGE)
        given = {
            "n_epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "lora_r": rank,
            "lora_alpha": alpha,
            "context_length": max_length,
            "packing": packing,
            "dtype": dtype,
        }
        request: dict[str, Any] = {"model": model, "suffix": suffix, "seed": seed}
        request["hyperparameters"] = hyperparameters(given, lora)
        with Client(url) as client:
            id = _submit(client, file, validation, _without_none(request))
            job = client.job(id)
            describe(job)
            if detach:
                data_json({"job": job, "model": None}) if as_json else data(id)
            else:
                watch(client, id, timeout=timeout, as_json=as_json)


def hyperparameters(given: dict[str, Any], lora: bool | None) -> dict[str, Any] | None:
    """Those of the wire that were given, and the choice of adapter where the server's own would be another one."""
    asked = _without_none(given)
    if lora is False:
        asked["lora"] = False
    elif asked.keys() & _ABSOLUTE:
        asked["lora"] = True
    return asked or None


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _submit(client: Client, file: Path, validation: Path | None, request: dict[str, Any]) -> str:
    try:
        request["training_file"] = client.upload(file)
        if validation is not None:
            request["validation_file"] = client.upload(validation)
        return client.create_job(request)
    except KeyboardInterrupt:
        say("Interrupted before the job's id was known; `tunesmith jobs list` tells whether it was created.")
        raise
