"""What the `appliance` command's exit status means: scripts and service managers rely on these numbers."""

from enum import IntEnum


class ExitCode(IntEnum):
    """One number for each thing that a caller would handle in its own way."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    UNAVAILABLE = 5
    INVALID_INPUT = 6
    REFUSED = 7
    DENIED = 8
    TIMED_OUT = 9
    DAMAGED = 10
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed; `doctor` found something bad",
    ExitCode.USAGE: "wrong use of the command line",
    ExitCode.NOT_FOUND: "no such model or version",
    ExitCode.UNREACHABLE: "the daemon is not there",
    ExitCode.UNAVAILABLE: "not ready, busy, or out of room: try again later",
    ExitCode.INVALID_INPUT: "the input, model folder or configuration is wrong",
    ExitCode.REFUSED: "not in this state: a golden test failed, a version exists or is in use",
    ExitCode.DENIED: "not allowed",
    ExitCode.TIMED_OUT: "no answer within the time allowed",
    ExitCode.DAMAGED: "the model store is damaged",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}

# By gRPC's name of the status and errors.py's code, which are the same words.
BY_STATUS: dict[str, ExitCode] = {
    "CANCELLED": ExitCode.UNAVAILABLE,
    "INVALID_ARGUMENT": ExitCode.INVALID_INPUT,
    "OUT_OF_RANGE": ExitCode.INVALID_INPUT,
    "DEADLINE_EXCEEDED": ExitCode.TIMED_OUT,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "ALREADY_EXISTS": ExitCode.REFUSED,
    "FAILED_PRECONDITION": ExitCode.REFUSED,
    "ABORTED": ExitCode.REFUSED,
    "PERMISSION_DENIED": ExitCode.DENIED,
    "UNAUTHENTICATED": ExitCode.DENIED,
    "RESOURCE_EXHAUSTED": ExitCode.UNAVAILABLE,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    # The model or the engine can't do what was asked of it.
    "UNIMPLEMENTED": ExitCode.INVALID_INPUT,
}


def of_status(name: str) -> ExitCode:
    """The exit code of a failed call."""
    return BY_STATUS.get(name, ExitCode.FAILED)


def epilog() -> str:
    """The table at the end of `appliance --help`."""
    # The help's renderer keeps single line ends; two of them would put an empty line between.
    return "Exit status:\n" + "\n".join(f"{code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())


class CommandFailed(Exception):
    """The command cannot do what was asked: one sentence for the person, one number for the script."""

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
