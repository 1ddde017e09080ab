"""The time that expiry is judged by: the machine's clock, and never earlier than what has been judged already.

The floor rises to the time of each successful refresh, to the moment since when something was refused as expired, and to
the newest signing time in verified metadata. So a clock that is set back, or an empty RTC battery, makes nothing fresh
again. It does not rise with the clock alone: a clock that is ten years ahead for an hour finds everything expired and
lifts the floor to the earliest of those expiries, which keeps that set of metadata expired for good; the next timestamp is
fine again once the clock is right.
"""

import contextlib
import logging
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from appliance import events, limits
from appliance.clock import Clock
from appliance.osutil import durable
from appliance.store.aside import keep_aside
from appliance.store.manifest import digest_of

_log = logging.getLogger(__name__)

FORMAT = 1
# The last second that a datetime can hold.
_LAST_S = 253_402_300_799


class _File(msgspec.Struct, frozen=True):
    """``check``: a flipped bit in a number is still a number, and one far in the future would expire everything."""

    format: int
    floor_s: int
    check: str


class ClockFloor:
    """The floor in ``folder``, in two copies. Unix time in whole seconds. One owner: the sync process."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._paths = (folder / "clock_floor", folder / "clock_floor.copy")
        self._written_s = self._floor_s = max(_read(path) for path in self._paths)

    @property
    def floor_s(self) -> int:
        """What the time is at least."""
        return self._floor_s

    @property
    def machine_s(self) -> int:
        """What the machine's clock says."""
        return self._clock.wall_ns() // 1_000_000_000

    def now_s(self) -> int:
        """The time to judge by."""
        return max(self._floor_s, min(self.machine_s, _LAST_S))

    def behind_s(self) -> int:
        """By how much the machine's clock is behind the floor: above 0 it was set back, and somebody should look."""
        return self.now_s() - max(0, self.machine_s)

    def agreed(self, now_s: int) -> None:
        """Metadata were fresh at ``now_s``. Written down once an hour, as this comes with each poll. Raises OSError."""
        self._rise(now_s, limits.clock_floor_step_s)

    def expired(self, since_s: int) -> None:
        """Something is expired since then, and stays so. Raises OSError."""
        self._rise(since_s, 1)

    def signed(self, at_s: int, believed_until_s: int) -> None:
        """Verified metadata were signed at ``at_s``.

        ``believed_until_s`` is the earliest expiry of the set that they belong to: they were signed before it, or lie;
        so whoever has one key cannot expire what the other keys have signed. Raises OSError.
        """
        self._rise(min(at_s, believed_until_s - 1), limits.clock_floor_step_s)

    def reset(self) -> None:
        """Forgets the floor: for a person who knows that it came from a wrong clock. Raises OSError."""
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                durable.sync_folder(path.parent)
        self._floor_s = self._written_s = 0

    def _rise(self, to_s: int, step_s: int) -> None:
        self._floor_s = max(self._floor_s, min(to_s, _LAST_S))
        if self._floor_s < self._written_s + step_s:
            return
        data = msgspec.json.encode(_File(FORMAT, self._floor_s, _check(self._floor_s)))
        for path in self._paths:
            durable.write(path, data, point="trust.clock")
        self._written_s = self._floor_s


def as_datetime(at_s: int) -> datetime:
    """A Unix time as TUF metadata have it."""
    return datetime.fromtimestamp(min(max(at_s, 0), _LAST_S), timezone.utc)


def _check(floor_s: int) -> str:
    return digest_of(b"%d" % floor_s)


def _read(path: Path) -> int:
    """The floor in a file; 0 when there is none, or none that could be believed."""
    try:
        with path.open("rb") as file:
            parsed = msgspec.json.decode(file.read(limits.clock_floor_bytes_max), type=_File)
        if parsed.format == FORMAT and parsed.check == _check(parsed.floor_s):
            return parsed.floor_s
    except FileNotFoundError:
        return 0
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        pass
    _log.warning(
        "%s cannot be read and is set aside; its copy, or else the machine's clock, counts",
        path,
        extra=events.TRUST_SET_ASIDE.of(),
    )
    with contextlib.suppress(OSError):
        keep_aside(path)
    return 0
