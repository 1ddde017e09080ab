"""Reading small files that somebody may have changed: never more than they can have."""

from pathlib import Path


class TooLarge(OSError, ValueError):
    """Not what this file can be, whether one asks for what cannot be read or for what makes no sense."""


def read(path: Path, bytes_max: int) -> bytes:
    """A file of at most so many bytes. Raises OSError, TooLarge for more."""
    with path.open("rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise TooLarge(f"{path.name} has more than {bytes_max} bytes")
    return data
