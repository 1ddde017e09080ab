"""The journal of updates as bytes: versioned, with a check, and never trusted. A flipped bit in a number is a number."""

import hashlib
import logging
from pathlib import Path

import msgspec

from appliance import events, limits
from appliance.osutil import bounded
from appliance.registry.sync.states import State
from appliance.store.aside import take_away

_log = logging.getLogger(__name__)

NAME, COPY = "sync.json", "sync.copy.json"
FORMAT = 1


class Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last update of a line. ``since_s``: in this state; ``retry_s``: a failed one is tried again then (Unix time).

    ``needs``: digests of the blobs that it is made of, as soon as that is known: what has come of them is no garbage.
    """

    version: str
    digest: str
    counter: int
    state: State
    tries: int = 0
    retry_s: int = 0
    since_s: int = 0
    reason: str = ""
    needs: tuple[str, ...] = ()


class Bad(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that is never tried again, and why."""

    line: str
    version: str
    digest: str
    reason: str
    since_s: int


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``writes`` tells which of two copies is newer. ``check``: of all the rest, "" only without updates."""

    format: int = FORMAT
    device: str = ""
    paused: bool = False
    counters: dict[str, int] = {}
    writes: int = 0
    updates: dict[str, Update] = {}
    quarantine: tuple[Bad, ...] = ()
    check: str = ""


_decoder = msgspec.json.Decoder(File)


def encode(file: File) -> bytes:
    """Readable for a person with an editor, who cannot change it unnoticed."""
    data = msgspec.json.encode(msgspec.structs.replace(file, check=_check(file)))
    return msgspec.json.format(data, indent=2) + b"\n"


def read(path: Path) -> File | None:
    """None when there is none, or none that can be believed: that one is set aside."""
    try:
        return decode(bounded.read(path, limits.sync_journal_bytes_max))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s cannot be read (%s) and is set aside", path.name, error, extra=events.RECORD_SET_ASIDE.of())
        take_away(path)
        return None


def decode(data: bytes) -> File:
    """Raises ValueError with what is wrong."""
    if len(data) > limits.sync_journal_bytes_max:
        raise ValueError(f"more than {limits.sync_journal_bytes_max} bytes")
    file = _decoder.decode(data)
    if file.format != FORMAT or not file.device:
        raise ValueError(f"format {file.format}, or no device; this version reads format {FORMAT}")
    if not file.check and not (file.writes or file.updates or file.quarantine):
        return file
    if file.check != _check(file):
        raise ValueError("its content does not match its check")
    return file


def _check(file: File) -> str:
    plain = msgspec.json.encode(msgspec.structs.replace(file, check=""), order="deterministic")
    return hashlib.sha256(plain).hexdigest()
