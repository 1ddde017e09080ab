"""The update loop: poll, plan, look, make room, bring, adopt, hand on; one step each time the work loop turns.

It runs in the thread that owns the store. What waits for the network is the courier's; what runs is the supervisor's.
How far an update has come is in the journal (record.py). Each step is planned anew (sync/planner.py) from what is signed,
stored and written down, and may be taken twice: so a power cut anywhere leaves the old version or the new one.
"""

import contextlib
import logging
from collections.abc import Callable

from appliance import events
from appliance.comparison import plans_of
from appliance.config import RegistryConfig
from appliance.control import Unneeded, Updated
from appliance.errors import ApplianceError, Cancelled, InvalidArgument
from appliance.questions import Desired
from appliance.registry.loop import report, timing
from appliance.registry.loop.courier import Courier
from appliance.registry.loop.errands import Brought, Looked
from appliance.registry.loop.means import Doing, Means
from appliance.registry.release import Release
from appliance.registry.sources.failures import Refused, Unreachable
from appliance.registry.sync.planner import Install, SyncPlan, plan
from appliance.registry.sync.states import WrongTransition
from appliance.registry.trust.verified import Verified
from appliance.registry_rules import OFFLINE
from appliance.store import disk
from appliance.sync_questions import AskUpdateEnded, SyncPlanned, SyncStatus

_log = logging.getLogger(__name__)
_NEVER_NS = 1 << 62
# What these say is not of one release: the next line would meet the same.
_OF_ALL = (Unreachable, Refused, Cancelled, WrongTransition)
_FAILED = "the sync process failed; the daemon's log says why"


class Updates:
    """``turn`` when ``courier.fd`` is readable or ``due_ns`` has come. While the courier is busy he uses the trust."""

    def __init__(self, config: RegistryConfig, means: Means) -> None:
        self._config = config
        self._means = means
        self._journal = means.record.journal
        self.courier: Courier[Verified | Looked | Brought] = Courier()
        self._doing = Doing.WAITING
        self._release: Release | None = None
        self._plan = SyncPlan()
        self._desired: tuple[Desired, ...] = ()
        # Versions that the supervisor would not remove, until the next round.
        self._kept: frozenset[tuple[str, str]] = frozenset()
        self._only_look = False
        self._error = ""
        self._failures = 0
        self._polled_ns = 0
        means.store.pin(lambda: self._journal.pinned)
        self._verified: Verified | None = means.errands.last()
        self._next_ns = means.clock.monotonic_ns()
        with contextlib.suppress(ApplianceError, OSError):  # the first round meets it again, and tells it
            self._look()
        if self._verified is not None and not self._journal.is_busy:
            self._wait()

    @property
    def due_ns(self) -> int:
        """When ``turn`` has something to do at the latest, on CLOCK_MONOTONIC."""
        if self._doing is not Doing.WAITING:
            return _NEVER_NS
        return 0 if self._means.visits.asked else self._next_ns if self._polls else _NEVER_NS

    # --- what operators and the supervisor say -----------------------------------------------------------------------

    def wish(self, wish: str) -> None:
        """As in AskSync."""
        if wish == "pause":
            self._journal.pause(True)
            self._means.errands.cancel()
        elif wish in ("now", "resume"):
            self._journal.pause(False)
            self._means.record.try_again()
            self._failures = 0
            self._next_ns = self._means.clock.monotonic_ns()
        elif wish == "look" and self._doing is Doing.WAITING:
            self._only_look = True
            self._next_ns = self._means.clock.monotonic_ns()

    def visit(self, path: str) -> None:
        """Imports a stick, an OCI layout folder on this machine, as soon as what is under way lets it.

        An operator has brought it: a pause and maintenance windows don't hold it up. Raises what Visits.ask raises.
        """
        self._means.visits.ask(path)
        self._means.record.try_again()
        if self._doing in (Doing.ASKING, Doing.LOOKING, Doing.BRINGING):
            self._means.errands.cancel()

    def ended(self, told: AskUpdateEnded) -> None:
        """The supervisor has made an update run, or has not; or has removed a version, or has not."""
        self._step(lambda: self._ended(told))

    def _ended(self, told: AskUpdateEnded) -> None:
        release = self._release
        if self._doing is Doing.MAKING_ROOM:
            if told.code:
                self._kept |= {(told.name, told.version)}
        elif (
            self._doing is not Doing.HANDING_ON
            or release is None
            or (told.name, told.version) != (release.line, release.version)
        ):
            return  # of an earlier life of this process: the next poll looks what runs
        elif told.code:
            self._means.record.not_activated(release, told.message)
        self._go_on()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """One step, if there is one. Never waits. A disk that fails is a failed poll."""
        self._step(self._turn)

    def _step(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, ApplianceError) as error:
            self._failed(error)

    def _turn(self) -> None:
        outcome = self.courier.take()
        if outcome is not None:
            if outcome.error is not None:
                self._failed(outcome.error)
            elif isinstance(outcome.result, Looked):
                self._looked(outcome.result)
            elif isinstance(outcome.result, Brought):
                self._adopt(outcome.result)
            elif outcome.result is not None:
                self._refreshed(outcome.result)
        elif self._means.clock.monotonic_ns() >= self.due_ns:
            self._ask()
        elif self._doing is Doing.WAITING and self._desired != self._means.store.desired():
            self._look()  # a probation has ended, or an operator has acted

    @property
    def _polls(self) -> bool:
        return self._config.url != OFFLINE and (self._only_look or not self._journal.paused)

    def _ask(self) -> None:
        self._doing = Doing.ASKING
        stick = self._means.visits.begin()
        self._only_look = self._only_look and stick is None
        self._means.errands.turn_to(stick)
        self.courier.begin(lambda: self._means.errands.refresh(self._means.gather.wants))

    def _refreshed(self, verified: Verified) -> None:
        self._verified = verified
        if not self._means.visits.path:
            self._error, self._failures = "", 0
            self._polled_ns = self._means.clock.wall_ns()
        for problem in verified.problems:
            facts = events.UPDATE_REFUSED.of(problem.line)
            _log.error("releases of %s are not taken: %s", problem.line or "a line", problem.message, extra=facts)
        self._means.record.forget(verified)
        self._kept = frozenset()
        if not self._only_look:
            return self._go_on()
        self._look()
        return self._wait()

    def _look(self) -> None:
        """What has followed from the last steps, and what is to be done now."""
        self._desired = self._means.store.desired()
        self._means.record.look()
        if self._verified is None:
            return
        self._means.word.tell(self._verified, self._means.store.versions())
        now_s, visiting = self._means.errands.trust.clock.now_s(), bool(self._means.visits.path)
        self._plan = plan(self._means.gather.facts(self._verified, now_s, kept=self._kept, visiting=visiting))

    def _go_on(self) -> None:
        """Plans, and begins the first thing that is to be done."""
        self._release, self._doing = None, Doing.WAITING
        self._look()
        unknown = self._means.gather.unknown(self._plan)
        if unknown is not None:
            self._release, self._doing = unknown, Doing.LOOKING
            self.courier.begin(lambda: self._means.errands.look(unknown))
        elif self._plan.installs:
            self._begin(self._plan.installs[0])
        else:
            self._wait()

    def _begin(self, install: Install) -> None:
        self._release = release = install.release
        room_for = f"{release.line} {release.version}"
        if self._means.gather.is_stored(release):
            self._means.record.begin(release)
            self._hand_on(release)
        elif removal := next((each for each in self._plan.removals if each.room_for == room_for), None):
            self._doing = Doing.MAKING_ROOM
            _log.info("%s %s goes to make room for %s", removal.line, removal.version, room_for)
            self._means.send(Unneeded(removal.line, removal.version))
        else:
            _log.info("fetching %s, release %d: %d bytes", room_for, release.counter, install.fetch_bytes)
            self._means.record.begin(release, self._means.gather.needs(release))
            self._doing = Doing.BRINGING
            self.courier.begin(lambda: self._means.errands.bring(release))

    def _looked(self, looked: Looked) -> None:
        try:
            self._means.gather.learn(looked.release, looked.data)
        except InvalidArgument as error:
            self._means.record.unfit(looked.release, error.message)
        self._go_on()

    def _adopt(self, brought: Brought) -> None:
        release, record = brought.release, self._means.record
        record.fetched(release)
        try:
            model = self._means.store.adopt(release.line, release.version, brought.data)
        except ApplianceError as error:
            facts = events.UPDATE_REFUSED.of(release.line, release.version, error.reason, release=release.counter)
            _log.error("%s:%s is not taken: %s", release.line, release.version, error.message, extra=facts)
            record.not_adopted(release, error)
            self._go_on()
        else:
            stored = f"{release.line}:{release.version} ({model.digest}, {model.size_bytes} bytes)"
            _log.info("stored %s", stored, extra=events.UPDATE_STORED.of(release.line, release.version))
            record.adopted(release)
            self._hand_on(release)
        finally:
            self._means.errands.adopted()

    def _hand_on(self, release: Release) -> None:
        (self._means.record.activating if self._config.activate else self._means.record.adopted)(release)
        self._doing = Doing.HANDING_ON
        model = self._means.store.get(release.line, release.version)
        config = self._config
        self._means.send(Updated(model, config.activate, config.probation_seconds, plans_of(config)))

    def _failed(self, error: BaseException) -> None:
        self._means.errands.adopted()
        release = self._release
        if release is not None and isinstance(error, ApplianceError) and not isinstance(error, _OF_ALL):
            facts = events.UPDATE_NOT_FETCHED.of(release.line, release.version, error.reason, release=release.counter)
            _log.error("%s:%s is not fetched: %s", release.line, release.version, error.message, extra=facts)
            self._means.record.broke_off(release, error.message)
            self._go_on()
        else:
            self._round_failed(disk.explained(error))

    def _round_failed(self, error: BaseException) -> None:
        message = error.message if isinstance(error, ApplianceError) else _FAILED
        if not isinstance(error, ApplianceError):
            _log.error("updates failed", exc_info=error, extra=events.UPDATE_FAILED.of())
        if self._means.visits.path or isinstance(error, Cancelled):
            return self._wait(message)
        self._polled_ns = self._means.clock.wall_ns()
        if isinstance(error, ApplianceError) and message != self._error:  # away for a week is one line
            _log.error("updates: %s", message, extra=disk.kind_of(error, events.REGISTRY_UNREACHABLE))
        self._error, self._failures = message, self._failures + 1
        return self._wait()

    def _wait(self, problem: str = "") -> None:
        """The round is over, with a ``problem`` or without."""
        self._only_look, self._doing, self._release = False, Doing.WAITING, None
        self._means.visits.end(self.status, problem)
        poll_s, now_s = self._config.poll_seconds, self._means.clock.wall_ns() / 1e9
        if self._failures:
            seconds = timing.after_failure_s(self._failures, poll_s, self._means.spread)
        else:
            seconds = timing.next_poll_s(self._plan, self._journal.device, poll_s, now_s)
        self._next_ns = self._means.clock.monotonic_ns() + int(seconds * 1e9)

    # --- for operators -----------------------------------------------------------------------------------------------

    def status(self) -> SyncStatus:
        """What `appliance sync status` shows."""
        means, waits = self._means, self._doing is Doing.WAITING and self._polls
        next_ms = (means.clock.wall_ns() + self._next_ns - means.clock.monotonic_ns()) // 1_000_000
        what = f" {self._release.line} {self._release.version}" if self._release else ""
        return SyncStatus(
            registry=self._config.url,
            paused=self._journal.paused,
            doing=self._doing.value + what,
            done_bytes=means.errands.done_bytes,
            total_bytes=means.errands.total_bytes,
            polled_ms=self._polled_ns // 1_000_000,
            next_ms=next_ms if waits else 0,
            error=self._error,
            **report.of_plan(self._plan, self._verified, means.errands.trust.clock.now_s()),
            visiting=means.visits.shown,
            visit=means.visits.last,
        )

    def planned(self) -> SyncPlanned:
        """The plan as it is now; nothing of it is done."""
        if self._doing is Doing.WAITING:
            self._look()
        return report.planned(self._plan, self._config.url, self._polled_ns // 1_000_000)
