"""The status that a stick carries back: put together, signed, and written to return/DEVICE.json on it.

The stick is not ours: nothing in it is followed, and one that can't be written to is said so, no more.
"""

import errno
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from appliance import __version__, events, limits
from appliance.clock import Clock
from appliance.errors import FailedPrecondition
from appliance.osutil import beneath_write
from appliance.registry.bundle import return_format
from appliance.registry.bundle.device_key import DeviceKey
from appliance.registry.bundle.return_format import LineReport, Report, RoleReport
from appliance.registry.trust.failures import NoRoot
from appliance.registry.trust.verified import Verified
from appliance.sync_questions import SyncLine, SyncStatus
from appliance.versions import Desired, ModelVersion

if TYPE_CHECKING:
    from appliance.registry.trust.releases import Trust
    from appliance.store.store import Store

_log = logging.getLogger(__name__)


class NotReturned(FailedPrecondition):
    """The status could not be written; the import is as good without it."""

    default_reason = "NOT_RETURNED"


class Known(NamedTuple):
    """What is here: the store's versions, what should run, and the metadata that are trusted (None: none yet)."""

    models: Sequence[ModelVersion]
    desired: Sequence[Desired]
    verified: Verified | None


def known(store: "Store", trust: "Trust") -> Known:
    """What a machine's store and trust know, as WriteBack wants it. Raises OSError."""
    try:
        verified = trust.last()
    except NoRoot:
        verified = None
    return Known(store.versions(), store.desired(), verified)


class WriteBack:
    """Called with a stick and what `sync status` would say: writes the status, returns the file.

    ``state``: the state folder, for the key in ``state``/trust. ``device``: as in the journal. Raises NotReturned.
    """

    def __init__(self, state: Path, device: str, known: Callable[[], Known], clock: Clock) -> None:
        self._keys = DeviceKey(state / "trust")
        self._device = device
        self._known = known
        self._clock = clock

    def __call__(self, stick: Path, status: SyncStatus) -> Path:
        """As above."""
        now_s = self._clock.wall_ns() // 1_000_000_000
        try:
            key, counter = self._keys.load(), self._keys.next_counter(now_s)
            data = return_format.encode(report(self._device, counter, now_s, self._known(), status), key)
            name = return_format.file_name(self._device)
        except (OSError, OverflowError, ValueError) as error:
            _log.exception("this machine's status cannot be signed", extra=events.DEVICE_UNSIGNED.of())
            raise NotReturned(f"this machine's status cannot be signed: {error}") from None
        try:
            return beneath_write.write(stick, return_format.FOLDER, name, data, point="return")
        except OSError as error:
            raise NotReturned(f"no status was written to {stick}: {_why(error)}") from None


def report(device: str, counter: int, at_s: int, known: Known, status: SyncStatus) -> Report:
    """What is known, cut to what a status may hold. Pure."""
    names = {m.name for m in known.models} | {d.name for d in known.desired} | {s.line for s in status.lines}
    lines = [_line(name, known, status) for name in sorted(names)]
    most = limits.return_entries_max
    roles = known.verified.roles if known.verified else ()
    return Report(
        device=_text(device),
        counter=counter,
        at_s=max(0, at_s),
        appliance=_text(__version__),
        error=_text(status.error),
        lines=tuple(lines[:most]),
        roles=tuple(RoleReport(_text(r.name), max(0, r.version), max(0, r.expires_s)) for r in roles[:most]),
        alarms=tuple(_text(alarm) for alarm in status.alarms[:most]),
        lines_left_out=max(0, len(lines) - most),
    )


def _line(name: str, known: Known, status: SyncStatus) -> LineReport:
    desired = next((d for d in known.desired if d.name == name), Desired(name))
    told = next((s for s in status.lines if s.line == name), SyncLine(name))
    most = limits.return_versions_max
    return LineReport(
        line=_text(name),
        active=_text(desired.active),
        # The newest of them: what has been here longest says least.
        stored=tuple(_text(m.version) for m in known.models if m.name == name)[-most:],
        quarantined=tuple(_text(bad.version) for bad in desired.quarantined)[-most:],
        wanted=_text(told.version),
        state=_text(told.state),
        reason=_text(told.reason),
    )


def _text(text: str) -> str:
    most = limits.return_text_chars_max
    return text if len(text) <= most else text[: most - 3] + "..."


def _why(error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "it is read-only"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return f"{return_format.FOLDER} on it is a link, or no folder"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "the daemon's user may not write to it (mount it with uid= of that user, or leave it so)"
    return error.strerror or str(error)
