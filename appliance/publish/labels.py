"""Names of classes: one line each, in the order of the estimator's classes_, as the engine reads them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.publish.table import check_text

FILE_NAME = "labels.txt"
Given = Sequence[str] | Mapping[int | str, str] | None


def names(classes: Sequence[int | str], given: Given) -> tuple[str, ...]:
    """The name of each class: ``given`` in the order of ``classes`` or by class; the class itself without.

    Raises InvalidArgument LABELS.
    """
    if given is None:
        chosen = [str(c) for c in classes]
    elif isinstance(given, Mapping):
        unknown = [key for key in given if key not in classes]
        missing = [c for c in classes if c not in given]
        if unknown or missing:
            raise _refused(
                f"the classes are {', '.join(map(repr, classes))}, labels name {', '.join(map(repr, given))}"
            )
        chosen = [str(given[c]) for c in classes]
    else:
        chosen = [str(text) for text in given]
    if len(chosen) != len(classes):
        raise _refused(f"{len(chosen)} labels for {len(classes)} classes ({', '.join(map(repr, classes[:20]))})")
    for text in chosen:
        check_text(text, "a label")
        if not text.strip() or text.splitlines() != [text]:
            raise _refused(f"the label {text!r} is empty or has a line's end in it")
    if len(set(chosen)) < len(chosen):
        twice = next(text for text in chosen if chosen.count(text) > 1)
        raise _refused(f"two classes have the label {twice!r}")
    return tuple(chosen)


def content(labels: Sequence[str]) -> bytes:
    """The file. Raises InvalidArgument LABELS when the engine wouldn't read so much."""
    data = "".join(f"{label}\n" for label in labels).encode()
    if len(data) > limits.labels_bytes_max:
        raise _refused(f"{len(data)} bytes, at most {limits.labels_bytes_max} are allowed")
    return data


def read(path: Path) -> list[str]:
    """The lines of a file that the publisher wrote. Raises InvalidArgument LABELS."""
    try:
        if path.stat().st_size > limits.labels_bytes_max:
            raise _refused(f"{path.name} is larger than {limits.labels_bytes_max} bytes")
        return path.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise _refused(f"{path.name} can't be read: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError as error:
        raise _refused(f"{path.name} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _refused(message: str) -> InvalidArgument:
    return InvalidArgument(f"labels: {message}", reason="LABELS")
