"""What all commands share: help that begins with an example, and the options that many have."""

import inspect
from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar

import typer

DEFAULT_URL = "http://127.0.0.1:23478"

Url = Annotated[str, typer.Option("--url", envvar="TUNESMITH_URL", help="Address of the server.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0, metavar="SECONDS", help="Wait at most so long; then exit with 124."),
]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def group(text: str) -> typer.Typer:
    """A noun whose verbs are commands."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def command(
    app: typer.Typer, name: str, *examples: str
) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """Make a function a command. Its help is the examples, then its docstring."""

    def register(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        text = inspect.getdoc(function) or ""
        # \b keeps the lines of the examples as they are.
        shown = "\b\n" + "\n".join(f"$ {example}" for example in examples)
        app.command(name, help=f"{shown}\n\n{text}", short_help=text.partition("\n")[0])(function)
        return function

    return register
