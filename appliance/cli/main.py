"""The entry point of the `appliance` command: every failure becomes one line on standard error and an exit status."""

import os
import sys
from collections.abc import Sequence

from appliance.cli import exit_codes, start
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.errors import ApplianceError

# typer and what it brings take 120 ms to import; scripts ask for the version often.
_VERSION = {("version",): False, ("--version",): False, ("version", "--json"): True}


def main() -> None:
    """The entry point of the installed command."""
    exit_code = run(sys.argv[1:])
    if exit_code == ExitCode.INTERRUPTED:
        # Ctrl-C inside gRPC can leave its locks held: the interpreter's own end would then wait for ever.
        sys.stdout.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit status. Raises only with APPLIANCE_DEBUG set."""
    as_json = "--json" in arguments
    try:
        return _dispatch(tuple(arguments), as_json)
    except CommandFailed as failed:
        return _fail(failed.message, failed.exit_code, as_json)
    except ApplianceError as error:
        return _fail(error.message, exit_codes.of_status(error.code.value), as_json)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from complaining while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except Exception as error:
        if os.environ.get("APPLIANCE_DEBUG"):
            raise
        text = f"unexpected {type(error).__name__}: {error} (set APPLIANCE_DEBUG=1 to see where)"
        return _fail(text, ExitCode.FAILED, as_json)


def _dispatch(arguments: tuple[str, ...], as_json: bool) -> int:
    """The command itself. Its exit status is what it raised typer.Exit with, else 0."""
    if arguments in _VERSION:
        from appliance.cli.version import version

        version(as_json=_VERSION[arguments])
        return _flush()
    if plain := start.plain(arguments):
        return start.start(*plain)
    from appliance.cli.app import app

    try:
        left = app(args=list(arguments), prog_name="appliance", standalone_mode=False)
    except Exception as error:
        wrong_use = getattr(error, "format_message", None)
        if wrong_use is None:
            # What typer's prompts raise on Ctrl-C and at the end of input.
            if type(error).__name__ == "Abort":
                return ExitCode.INTERRUPTED
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "appliance"
        return _fail(f"{wrong_use().rstrip('.')}; see {path} --help", ExitCode.USAGE, as_json)
    return _flush() or (left if isinstance(left, int) else ExitCode.OK)


def _flush() -> int:
    """Writes what is buffered while a closed pipe can still be handled."""
    sys.stdout.flush()
    return ExitCode.OK


def _fail(message: str, exit_code: ExitCode, as_json: bool) -> int:
    """One line for the person; for a script that reads our output as JSON, one document too."""
    from appliance.cli import output

    text = output.line(message)
    output.note(f"appliance: {text}")
    if as_json:
        output.emit({"error": {"message": text, "exit_status": int(exit_code)}}, True, lambda: None)
        sys.stdout.flush()
    return exit_code


if __name__ == "__main__":
    main()
