"""How a command ends: exit codes that scripts can rely on, and the error that carries one."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell sees. The numbers are part of the interface, see `docs/cli.md`."""

    OK = 0
    FAILURE = 1
    """Something failed; also a watched job that failed or was cancelled."""
    USAGE = 2
    """The command line or a setting is wrong."""
    AUTH = 3
    NOT_FOUND = 4
    CONFLICT = 5
    """The request does not fit the present state, or exceeds a quota."""
    UNREACHABLE = 6
    TIMED_OUT = 124
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command with a sentence on stderr, without a traceback."""

    def __init__(self, message: str, *, hint: str | None = None, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


@contextmanager
def settings_faults() -> Iterator[None]:
    """Report a setting that is not allowed like a wrong command line."""
    from tunesmith.spec.errors import SettingsError

    try:
        yield
    except SettingsError as error:
        raise CommandError(error.message, hint=error.hint, code=ExitCode.USAGE) from error
