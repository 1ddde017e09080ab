"""Texts for `embed` and `rerank`: arguments, or the lines of a file or of standard input."""

import sys
from pathlib import Path

from appliance import limits
from appliance.cli.exit_codes import CommandFailed, ExitCode

# Sixteen requests full of text; more is a job for a program.
_BYTES_MAX = 16 * limits.prompt_bytes_max


def read_texts(arguments: list[str], file: Path | None, what: str) -> list[str]:
    """``-`` stands for standard input, each line of which is one text; empty lines are none. Raises CommandFailed."""
    if file is not None and arguments:
        raise CommandFailed(ExitCode.USAGE, f"give {what} as arguments or with --file, not both")
    if file is not None:
        texts = _lines(str(file), _file_bytes(file))
    elif arguments == ["-"] or (not arguments and not sys.stdin.isatty()):
        texts = _lines("standard input", sys.stdin.buffer.read(_BYTES_MAX + 1))
    else:
        texts = arguments
    if not texts:
        raise CommandFailed(ExitCode.USAGE, f"no {what} came: give some as arguments, with --file, or - for lines")
    return texts


def _file_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"cannot read {path}: {error.strerror}") from None


def _lines(where: str, data: bytes) -> list[str]:
    if len(data) > _BYTES_MAX:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{where} is larger than {_BYTES_MAX} bytes")
    try:
        # Not splitlines: U+2028 and the like are part of a text.
        lines = data.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{where} is not UTF-8") from None
    return [line for line in lines if line.strip()]
