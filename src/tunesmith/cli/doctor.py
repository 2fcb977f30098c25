"""`tunesmith doctor`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.commands import AsJson, command
from tunesmith.cli.findings import Finding, Status
from tunesmith.cli.outcome import ExitCode
from tunesmith.cli.output import data, data_json, printable

_INDENT = " " * 6


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "doctor", "tunesmith doctor", "tunesmith doctor --home /data/tunesmith --json")
    def doctor(
        home: Annotated[Path | None, typer.Option(metavar="DIR", help="The server's home. [~/.tunesmith]")] = None,
        host: Annotated[str | None, typer.Option(metavar="HOST", help="The server's address. [127.0.0.1]")] = None,
        port: Annotated[int | None, typer.Option(metavar="PORT", help="The server's port. [23478]")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Check whether this machine can serve and train.

        Each line says what was found and, where something is in the way, what to do. Nothing is changed. Exits with 1
        if a check fails; warnings do not count.
        """
        findings: list[Finding] = []
        for finding in _findings(home, host, port):
            findings.append(finding)
            if not as_json:
                _print(finding)
        ok = all(finding.status is not Status.FAIL for finding in findings)
        if as_json:
            data_json({"ok": ok, "checks": [finding.as_json() for finding in findings]})
        if not ok:
            raise typer.Exit(ExitCode.FAILURE)


def _findings(home: Path | None, host: str | None, port: int | None) -> Iterator[Finding]:
    from tunesmith.cli import home_checks, machine_checks, model_checks
    from tunesmith.server.settings import load_settings
    from tunesmith.spec.errors import SettingsError

    yield machine_checks.python_version()
    yield machine_checks.sqlite_version()
    try:
        settings = load_settings(home=home, host=host, port=port)
    except SettingsError as error:
        yield Finding("settings", Status.FAIL, error.message, error.hint)
        return
    yield Finding("settings", Status.PASS, f"home {settings.home}, address {settings.host} port {settings.port}")
    yield from machine_checks.training(settings.worker_python, settings.visible_gpus)
    yield from home_checks.home(settings.home, settings.host, settings.port)
    yield from model_checks.models(settings.model_aliases, settings.model_roots)


def _print(finding: Finding) -> None:
    data(f"{finding.status:<4}  {finding.name}: {printable(finding.message)}")
    if finding.hint:
        data(f"{_INDENT}{printable(finding.hint)}")
