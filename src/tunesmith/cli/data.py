"""`tunesmith data`."""

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tunesmith.cli.commands import AsJson, command, group
from tunesmith.cli.outcome import CommandError, ExitCode, settings_faults
from tunesmith.cli.output import data_json, printable, say
from tunesmith.cli.receipt_view import show
from tunesmith.spec.receipt import REFUSED, Receipt

app = group("Training data, looked at without a server.")

_SHOWN_PROBLEMS = 5
_MOST_BYTES = 2**40  # of pictures: those of a file that is here


@command(app, "inspect", "tunesmith data inspect support.jsonl --model smollm2")
def inspect(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE", help="Rows.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Base model of the settings, or its folder.")],
    max_length: Annotated[
        int, typer.Option("--max-length", min=8, max=1_048_576, metavar="TOKENS", help="Longer rows are left out.")
    ] = 2048,
    as_json: AsJson = False,
) -> None:
    """Show which tokens a model would be trained on.

    Nothing is sent or stored. A file that no job could train on ends the command with 1 and the reason. The rows are
    tokenised by the interpreter of the setting `worker_python`.
    """
    with settings_faults():
        from tunesmith.server.settings import load_settings

        settings = load_settings()
    folder = _folder(model, settings.model_aliases, settings.model_roots)
    _require_usable(file)
    with TemporaryDirectory() as scratch:
        arguments = [str(file), str(folder), str(max_length), *_gathered(file, Path(scratch))]
        receipt = _receipt(settings.worker_python, arguments)
    if as_json:
        data_json(receipt.model_dump(mode="json"))
    else:
        show(receipt)


def _folder(model: str, aliases: dict[str, Path], roots: tuple[Path, ...]) -> Path:
    from tunesmith.assets.models import BaseModels
    from tunesmith.spec.errors import NotFoundError, TunesmithError

    if (Path(model) / "config.json").is_file():
        return Path(model)
    try:
        return BaseModels(aliases, roots).find(model)
    except TunesmithError as error:
        code = ExitCode.NOT_FOUND if isinstance(error, NotFoundError) else ExitCode.FAILURE
        raise CommandError(error.message, hint=error.hint, code=code) from error


def _require_usable(file: Path) -> None:
    from tunesmith.data.validate import inspect as read
    from tunesmith.spec.errors import TunesmithError

    try:
        report = read(file)
    except TunesmithError as error:
        raise CommandError(error.message, hint=error.hint) from error
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        say(f"Line {problem.line}: {problem.reason}")
    if report.problem_count:
        raise CommandError(
            f"{report.problem_count} of {report.rows} rows cannot be used.", hint="Correct or remove them."
        )


def _gathered(file: Path, scratch: Path) -> list[str]:
    """A file with the pictures that the rows show; none if they show none."""
    from tunesmith.data.row_pictures import RowPictures
    from tunesmith.jobs.gathering import PictureGatherer
    from tunesmith.spec.errors import TunesmithError
    from tunesmith.spec.reading import AS_FOUND
    from tunesmith.storage import Storage

    writer = Storage(scratch).writer()
    try:
        PictureGatherer(_refuse_address, _MOST_BYTES).gather(file, AS_FOUND, writer, lambda _done, _total: None)
        path = writer.commit().path
    except TunesmithError as error:
        raise CommandError(error.message, hint=error.hint) from error
    finally:
        writer.discard()
    return [str(path)] if len(RowPictures(path)) else []


def _refuse_address(address: str, _most: int) -> bytes:
    from tunesmith.spec.errors import DatasetError

    raise DatasetError(
        f"the picture {address.partition('?')[0]} lies elsewhere, and nothing is fetched here.",
        hint="Inspect rows whose pictures are data URIs or files of the same archive; a job fetches the others.",
    )


def _receipt(python: str, arguments: list[str]) -> Receipt:
    command = [python, "-m", "tunesmith.training.receipt", *arguments]
    try:
        ended = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise CommandError(
            f"The interpreter {python!r} does not start: {error.strerror}.",
            hint="Correct TUNESMITH_WORKER_PYTHON, or worker_python in tunesmith.toml.",
        ) from error
    if ended.returncode == REFUSED:
        reason = json.loads(ended.stderr.splitlines()[-1])
        raise CommandError(reason["message"], hint=reason["hint"])
    if ended.returncode != 0:
        for line in ended.stderr.splitlines()[-3:]:
            say(printable(line))
        raise CommandError(
            f"The rows were not tokenised: {python} ended with {ended.returncode}.", hint="Run `tunesmith doctor`."
        )
    return Receipt.model_validate_json(ended.stdout)
