"""The update loop: poll, choose, bring, adopt, hand on; one step each time the work loop turns.

It runs in the thread that owns the store. What waits for the network is the courier's; what runs is the supervisor's.
Nothing of what is under way is written down: each poll chooses anew (choose.py), and every step may be done twice.
"""

import logging
import random
from collections.abc import Callable
from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from appliance import __version__, limits, registry_rules
from appliance.clock import Clock
from appliance.config import RegistryConfig
from appliance.control import Updated
from appliance.errors import ApplianceError, Cancelled
from appliance.questions import ModelVersion
from appliance.registry.loop import hardware, report
from appliance.registry.loop.choose import Box, Choice, Known, choose
from appliance.registry.loop.courier import Courier
from appliance.registry.loop.errands import Brought, Errands
from appliance.registry.loop.hours import Hours
from appliance.registry.loop.memory import Memory
from appliance.registry.release import Release
from appliance.registry.trust.verified import Verified
from appliance.store.store import Store
from appliance.sync_questions import AskUpdateEnded, SyncLine, SyncStatus

_log = logging.getLogger(__name__)


class Doing(str, Enum):
    """What is under way. One thing at a time: a box has one line and one disk."""

    WAITING = ""
    ASKING = "asking the registry"
    BRINGING = "fetching"
    HANDING_ON = "activating"


class _Refused(NamedTuple):
    """Why a release was not made to run, until there is another one or a restart."""

    digest: str
    reason: str


class Updates:
    """``send`` hands an update on to the supervisor; how it ended comes with ``ended``."""

    def __init__(
        self,
        config: RegistryConfig,
        store: Store,
        memory: Memory,
        errands: Errands,
        clock: Clock,
        send: Callable[[msgspec.Struct], None],
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._config = config
        self._store = store
        self._memory = memory
        self._errands = errands
        self._clock = clock
        self._send = send
        self._spread = spread
        self._hours = Hours(config.windows, clock)
        self._courier: Courier[Verified | Brought] = Courier()
        self._doing = Doing.WAITING
        self._release: Release | None = None
        self._choices: tuple[Choice, ...] = ()
        self._refused: dict[str, _Refused] = {}
        self._verified: Verified | None = None
        self._error = ""
        self._failures = 0
        self._polled_ns = 0
        self._next_ns = clock.monotonic_ns()
        store.pin(errands.pinned)

    @property
    def fd(self) -> int:
        """Readable when ``turn`` has something to do."""
        return self._courier.fd

    @property
    def due_ns(self) -> int:
        """When ``turn`` has something to do at the latest, on CLOCK_MONOTONIC."""
        return self._next_ns

    # --- what operators and the supervisor say -----------------------------------------------------------------------

    def wish(self, wish: str) -> None:
        """As in AskSync."""
        if wish == "pause":
            self._memory.pause(True)
            self._errands.cancel()
        elif wish in ("now", "resume"):
            self._memory.pause(False)
            self._refused.clear()
            self._failures = 0
            self._next_ns = self._clock.monotonic_ns()

    @property
    def busy(self) -> bool:
        """Whether the courier is under way, who uses the trust meanwhile."""
        return self._courier.busy

    def ended(self, told: AskUpdateEnded) -> None:
        """The supervisor has made an update run, or has not."""
        release = self._release
        if (
            self._doing is not Doing.HANDING_ON
            or release is None
            or (told.name, told.version) != (release.line, release.version)
        ):
            return  # of an earlier life of this process: the next poll looks what runs
        if told.code:
            self._refused[release.line] = _Refused(release.digest, told.message)
        else:
            self._memory.ran(release.line, release.counter)
        self._go_on()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """One step, if there is one. Never waits. A disk that fails is a failed poll, and the next one tries again."""
        try:
            self._turn()
        except OSError as error:
            self._failed(error)

    def _turn(self) -> None:
        outcome = self._courier.take()
        if outcome is not None:
            if outcome.error is not None:
                self._failed(outcome.error)
            elif isinstance(outcome.result, Brought):
                self._adopt(outcome.result)
            elif outcome.result is not None:
                self._refreshed(outcome.result)
        elif self._doing is Doing.WAITING and not self._memory.paused and self._clock.monotonic_ns() >= self._next_ns:
            self._doing = Doing.ASKING
            self._next_ns = 1 << 63
            self._courier.begin(lambda: self._errands.refresh(self._wanted))

    def _wanted(self, line: str) -> bool:
        """Lines whose metadata are fetched: those that may come, and those that are here."""
        names = {model.name for model in self._store.versions()}
        return line in names or any(fnmatchcase(line, pattern) for pattern in self._config.allow)

    def _refreshed(self, verified: Verified) -> None:
        self._verified = verified
        self._error, self._failures = "", 0
        self._polled_ns = self._clock.wall_ns()
        for problem in verified.problems:
            _log.error("releases of %s are not taken: %s", problem.line or "a line", problem.message)
        self._go_on()

    def _go_on(self) -> None:
        """Chooses, and begins the first thing that is to be done."""
        self._release = None
        self._doing = Doing.WAITING
        if self._verified is None or self._memory.paused:
            self._wait()
            return
        self._choices = choose(self._verified.releases, self._box(), self._known(), self._errands.trust.clock.now_s())
        stored = self._store.versions()
        for choice in self._choices if self._hours.opens_s() == 0 else ():
            release = choice.release
            if release is None or choice.installed or self._is_refused(release):
                continue
            is_stored = _is_among(stored, release)
            if is_stored and not self._config.activate:
                continue
            self._release = release
            if is_stored:
                self._hand_on(release)
            else:
                _log.info("fetching %s:%s, release %d", release.line, release.version, release.counter)
                self._doing = Doing.BRINGING
                self._courier.begin(lambda release=release: self._errands.bring(release))  # type: ignore[misc]
            return
        self._wait()

    def _adopt(self, brought: Brought) -> None:
        release = brought.release
        try:
            model = self._store.adopt(release.line, release.version, brought.data)
        except ApplianceError as error:
            _log.error("%s:%s is not taken: %s", release.line, release.version, error.message)
            self._refused[release.line] = _Refused(release.digest, error.message)
            self._go_on()
        else:
            _log.info("stored %s:%s (%s, %d bytes)", model.name, model.version, model.digest, model.size_bytes)
            self._hand_on(release)
        finally:
            self._errands.adopted()

    def _hand_on(self, release: Release) -> None:
        self._doing = Doing.HANDING_ON
        model = self._store.get(release.line, release.version)
        self._send(Updated(model, self._config.activate, self._config.probation_seconds))

    def _failed(self, error: BaseException) -> None:
        self._errands.adopted()
        self._doing, self._release = Doing.WAITING, None
        if isinstance(error, Cancelled):
            self._wait()
            return
        self._polled_ns = self._clock.wall_ns()
        if not isinstance(error, ApplianceError):
            self._error = "the sync process failed; the daemon's log says why"
            _log.error("updates failed", exc_info=error)
        elif error.message != self._error:  # a registry that is away for a week is one line, not a thousand
            self._error = error.message
            _log.error("updates: %s", error.message)
        self._failures += 1
        self._wait()

    def _wait(self) -> None:
        seconds = self._config.poll_seconds
        if opens_s := self._hours.opens_s():
            seconds = min(seconds, max(1.0, opens_s - self._clock.wall_ns() / 1e9))
        if self._failures:
            seconds = min(seconds, limits.registry_retry_s_min * 2 ** min(self._failures - 1, 20))
        jitter = limits.registry_poll_jitter
        self._next_ns = self._clock.monotonic_ns() + int(seconds * self._spread(1 - jitter, 1 + jitter) * 1e9)

    # --- what is known -----------------------------------------------------------------------------------------------

    def _box(self) -> Box:
        config = self._config
        return Box(
            device=self._memory.device,
            appliance=__version__,
            channel=config.channel,
            region=config.region,
            hardware=hardware.found() | set(config.hardware),
            allow=config.allow,
            deny=config.deny,
            pins=registry_rules.pinned(config),
        )

    def _known(self) -> dict[str, Known]:
        digests = {(model.name, model.version): model.digest for model in self._store.versions()}
        known = {}
        for desired in self._store.desired():
            bad = frozenset(version.digest for version in desired.quarantined)
            digest = digests.get((desired.name, desired.active), "")
            known[desired.name] = Known(desired.active, digest, bad, self._memory.counter(desired.name))
        return known

    def _is_refused(self, release: Release) -> bool:
        refused = self._refused.get(release.line)
        return refused is not None and refused.digest == release.digest

    # --- for operators -----------------------------------------------------------------------------------------------

    def status(self) -> SyncStatus:
        """What `appliance sync status` shows."""
        next_ms = 0
        if self._doing is Doing.WAITING and not self._memory.paused:
            next_ms = (self._clock.wall_ns() + self._next_ns - self._clock.monotonic_ns()) // 1_000_000
        what = f" {self._release.line} {self._release.version}" if self._release is not None else ""
        verified, now_s = self._verified, self._errands.trust.clock.now_s()
        stored, opens_s = self._store.versions(), self._hours.opens_s()
        return SyncStatus(
            registry=self._config.url,
            paused=self._memory.paused,
            doing=self._doing.value + what,
            done_bytes=self._errands.done_bytes,
            total_bytes=self._errands.total_bytes,
            polled_ms=self._polled_ns // 1_000_000,
            next_ms=next_ms,
            error=self._error,
            lines=tuple(self._line(choice, stored, opens_s) for choice in self._choices),
            alarms=report.alarms(verified, stored, self._store.desired(), now_s) if verified else (),
            fresh_until_ms=verified.fresh_until_s * 1000 if verified else 0,
        )

    def _line(self, choice: Choice, stored: tuple[ModelVersion, ...], opens_s: int) -> SyncLine:
        release = choice.release
        refused = release is not None and self._is_refused(release)
        return report.line(
            choice,
            refused=self._refused[choice.line].reason if refused else "",
            by_hand=not self._config.activate and release is not None and _is_among(stored, release),
            opens_s=opens_s,
        )


def _is_among(stored: tuple[ModelVersion, ...], release: Release) -> bool:
    return any((m.name, m.version, m.digest) == (release.line, release.version, release.digest) for m in stored)
