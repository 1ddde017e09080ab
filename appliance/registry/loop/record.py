"""The journal of updates, held against what the store says of what runs: the supervisor acts, and this writes down what followed."""

import logging

from appliance.clock import Clock
from appliance.errors import ApplianceError, InvalidArgument
from appliance.questions import Desired
from appliance.registry.release import Release
from appliance.registry.sync import states
from appliance.registry.sync.journal import Journal
from appliance.registry.sync.journal_file import Update
from appliance.registry.sync.states import Event, Seen, State
from appliance.registry.trust.verified import Verified
from appliance.store.store import Store

_log = logging.getLogger(__name__)

_FETCHED = (Event.FETCHED, Event.ADOPTED)


class Record:
    """How far each update has come. Raises OSError where the journal can't be written."""

    def __init__(self, journal: Journal, store: Store, clock: Clock) -> None:
        self.journal = journal
        self._store = store
        self._clock = clock

    def look(self) -> None:
        """Writes down what has happened to updates that run, or have run."""
        stored = {(model.name, model.version): model.digest for model in self._store.versions()}
        desired = {each.name: each for each in self._store.desired()}
        for line, update in self.journal.updates.items():
            is_stored = stored.get((line, update.version)) == update.digest
            wanted = desired.get(line, Desired(line))
            bad = {each.digest: each.reason for each in wanted.quarantined}
            runs = is_stored and wanted.active == update.version
            seen = Seen(runs, wanted.probation is not None, update.digest in bad, is_stored)
            for event in states.follows(update.state, seen):
                self._tell(line, event, bad.get(update.digest, ""))

    def forget(self, verified: Verified) -> None:
        """Updates under way to what is not released any more are given up."""
        released = {release.digest for release in verified.releases}
        for line, update in self.journal.updates.items():
            if update.digest not in released and update.state in states.UNDER_WAY - {State.ACTIVATING}:
                self._tell(line, Event.GIVEN_UP)

    def begin(self, release: Release, needs: tuple[str, ...] = ()) -> None:
        """An update starts, or goes on where a restart or a failure has found it."""
        update = self.journal.updates.get(release.line)
        if not (update and update.digest == release.digest and self._goes_on(update)):
            self.journal.begin(release, self._now_s)
        if needs:
            self.journal.needs(release.line, needs)

    def fetched(self, release: Release) -> None:
        """All blobs are here."""
        self._reach(release.line, Event.FETCHED)

    def adopted(self, release: Release) -> None:
        """The store lists it."""
        for event in _FETCHED:
            self._reach(release.line, event)

    def activating(self, release: Release) -> None:
        """The supervisor is asked to make it run."""
        self.adopted(release)
        self._reach(release.line, Event.ACTIVATE)

    def unfit(self, release: Release, reason: str) -> None:
        """No try will help."""
        self.begin(release)
        self._tell(release.line, Event.UNFIT, reason)

    def broke_off(self, release: Release, reason: str) -> None:
        """Another try may help."""
        self.begin(release)
        self._reach(release.line, Event.BROKE_OFF, reason)

    def not_adopted(self, release: Release, error: ApplianceError) -> None:
        """The store refuses it: for what it is, or for now."""
        if isinstance(error, InvalidArgument):
            self.unfit(release, error.message)
        else:
            self.broke_off(release, error.message)

    def not_activated(self, release: Release, reason: str) -> None:
        """It doesn't run. Where the supervisor has quarantined it, the store says so, and ``look`` writes that down."""
        desired = next((each for each in self._store.desired() if each.name == release.line), Desired(release.line))
        if release.digest not in {bad.digest for bad in desired.quarantined}:
            self._reach(release.line, Event.BROKE_OFF, reason)

    def try_again(self) -> None:
        """An operator wants everything tried that failed, what was never stored because it breaks the rules included."""
        self.journal.try_again()
        condemned = {bad.digest for desired in self._store.desired() for bad in desired.quarantined}
        for digest in self.journal.quarantined - condemned:
            self.journal.lift(digest, self._now_s)

    @property
    def _now_s(self) -> int:
        return self._clock.wall_ns() // 10**9

    @staticmethod
    def _goes_on(update: Update) -> bool:
        return update.state in states.UNDER_WAY and update.state is not State.FAILED

    def _reach(self, line: str, event: Event, reason: str = "") -> None:
        """``event``, unless it has been told: steps are taken twice after a restart."""
        update = self.journal.updates.get(line)
        if update is not None and (update.state, event) in states.TABLE:
            self._tell(line, event, reason)

    def _tell(self, line: str, event: Event, reason: str = "") -> None:
        update = self.journal.tell(line, event, self._now_s, reason)
        _log.debug("the update of %s to %s is %s", line, update.version, update.state.value)
