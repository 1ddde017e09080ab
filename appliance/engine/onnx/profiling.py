"""Measuring a model's operators while it serves: a second session with ONNX Runtime's profiler takes its calls for a while.

The runtime keeps 2 kB in memory for each operator that ran, and half a kilobyte of JSON in its file (measured), so a
profile ends early when it has taken its share. Writing the file holds calls up: 6 s for a million operators, which is
why a share is a tenth of that.
"""

import contextlib
import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance import events, limits
from appliance.answers import ProfileDone
from appliance.calls import ProfileCall
from appliance.engine.arrays import Array
from appliance.engine.base import Reply
from appliance.engine.onnx.runner import Runner
from appliance.errors import InternalError, InvalidArgument, ResourceExhausted
from appliance.osutil.memory_room import private_bytes

_log = logging.getLogger(__name__)
_PREFIX = "profile-"
# Looking at the memory takes 12 us.
_RUNS_PER_LOOK = 16


class Measured(NamedTuple):
    """What runs instead of the model: ``run``, and the sessions behind it that write a file each."""

    run: Runner
    sessions: Sequence[Any]


# Makes them, given a folder for the files; raises ApplianceError when the model can't be loaded a second time.
Open = Callable[[Path], Measured]


class Profiler:
    """One profile at a time. ``folder``: where a file may lie while it is written; "" is the system's."""

    def __init__(
        self, open_measured: Open, folder: str, now_ns: Callable[[], int], memory: Callable[[], int] | None = None
    ) -> None:
        self._open = open_measured
        self._folder = folder
        self._now = now_ns
        self._memory = memory or _private_bytes
        self._running: _Running | None = None

    def begin(self, call: ProfileCall, reply: Reply) -> Runner:
        """What is to run the model until ``over`` says so.

        Raises InvalidArgument PROFILE_SECONDS, ResourceExhausted PROFILE_RUNNING, and what a load raises.
        """
        if not (math.isfinite(call.seconds) and 0 < call.seconds <= limits.profile_seconds_max):
            raise InvalidArgument(
                f"a profile takes more than 0 and at most {limits.profile_seconds_max} seconds",
                reason="PROFILE_SECONDS",
            )
        if self._running is not None:
            raise ResourceExhausted(
                "this model is being profiled already; try again when that has ended", reason="PROFILE_RUNNING"
            )
        scratch = self._scratch()
        try:
            measured = self._open(scratch)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        until_ns = self._now() + int(call.seconds * 1e9)
        running = self._running = _Running(measured, scratch, reply, until_ns, self._memory)
        return running.run

    def over(self) -> bool:
        """Whether a profile runs that must end now: its time is up, its client is gone, or it has taken its share."""
        running = self._running
        return running is not None and (running.full or running.reply.cancelled or self._now() >= running.until_ns)

    def end(self) -> None:
        """Answers with what was measured; the model must not be run through it any more."""
        running, self._running = self._running, None
        assert running is not None  # over() said so
        try:
            profile = running.finish()
        except Exception:  # the runtime's exceptions share no base class below Exception
            _log.exception("the profile could not be read", extra=events.ENGINE_NO_PROFILE.of())
            running.reply.fail(InternalError("the profile could not be read; the daemon's log says why"))
            return
        finally:
            shutil.rmtree(running.scratch, ignore_errors=True)
        if running.reply.cancelled:
            return
        if len(profile) > limits.profile_bytes_max:
            running.reply.fail(
                ResourceExhausted(
                    f"the profile has {len(profile)} bytes, at most {limits.profile_bytes_max} are sent; ask for fewer"
                    " seconds",
                    reason="PROFILE_TOO_LARGE",
                )
            )
            return
        running.reply.finish(ProfileDone(running.runs), [profile])

    def _scratch(self) -> Path:
        """A folder that only this process can read; what an engine that died left behind goes."""
        folder = Path(self._folder) if self._folder else None
        if folder is not None:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError:
                folder = None
        for old in folder.glob(f"{_PREFIX}*") if folder else ():
            shutil.rmtree(old, ignore_errors=True)
        try:
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        except OSError as error:
            _log.warning("no folder for a profile: %s", error.strerror, extra=events.ENGINE_NO_PROFILE.of())
            raise ResourceExhausted("there is no room on the disk for a profile", reason="PROFILE_DISK") from None


class _Running:
    """The profile that is being made. ``full``: it has taken its share of the memory."""

    def __init__(
        self, measured: Measured, scratch: Path, reply: Reply, until_ns: int, memory: Callable[[], int]
    ) -> None:
        self.scratch = scratch
        self.reply = reply
        self.until_ns = until_ns
        self.runs = 0
        self.full = False
        self._measured = measured
        self._memory = memory
        self._base = 0

    def run(self, names: list[str], feed: dict[str, Array]) -> Sequence[Any]:
        """As the model's own runner."""
        values = self._measured.run(names, feed)
        self.runs += 1
        if self.runs == 1:
            self._base = self._memory()  # after the first run the session has what it needs for itself
        elif self.runs % _RUNS_PER_LOOK == 0:
            self.full = self._memory() - self._base > limits.profile_memory_bytes_max
        return values

    def finish(self) -> bytes:
        """Writes the files, and gives the sessions back."""
        started = [session.get_profiling_start_time_ns() for session in self._measured.sessions]
        files = [Path(session.end_profiling()) for session in self._measured.sessions]
        del self._measured
        parts = []
        for file in files:
            parts.append(file.read_bytes())
            with contextlib.suppress(OSError):
                file.unlink()
        return parts[0] if len(parts) == 1 else merged(parts, started)


def merged(parts: Sequence[bytes], started_ns: Sequence[int]) -> bytes:
    """The profiles of a chain's files as one: on one clock (``ts`` in microseconds), one "process" for each file."""
    events: list[dict[str, Any]] = []
    for stage, (part, start) in enumerate(zip(parts, started_ns, strict=True)):
        shift = (start - min(started_ns)) // 1000
        decoded = msgspec.json.decode(part, type=list[dict[str, Any]])
        events += [event | {"pid": stage + 1, "ts": event.get("ts", 0) + shift} for event in decoded]
    return msgspec.json.encode(events)


def _private_bytes() -> int:
    try:
        return private_bytes("self")
    except (OSError, ValueError):
        return 0
