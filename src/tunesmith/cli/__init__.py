"""The command line. Modules are light: whatever takes time to import is imported where it is used."""

import sys


def main() -> None:
    """The entry point `tunesmith`."""
    from tunesmith.cli.application import create_application
    from tunesmith.cli.outcome import CommandError, ExitCode
    from tunesmith.cli.output import say

    try:
        create_application()(prog_name="tunesmith")
    except CommandError as error:
        say(f"Error: {error.message}" if error.code is not ExitCode.INTERRUPTED else error.message)
        if error.hint:
            say(error.hint)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
