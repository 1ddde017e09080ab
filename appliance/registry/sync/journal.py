"""The journal of updates: how far each has come, what is never tried again, what was installed last, who this box is.

    <state>/state/sync.json, sync.copy.json

It is written before whatever it announces is done, so after a power cut it names a step that was not taken, or was taken
in part. The second copy may be one step behind, which is the same case again. One owner: the sync process. Files with
device, pause and counters only, without a check, are of before there were updates in it, and are taken over.
"""

import logging
import secrets
from pathlib import Path

import msgspec

from appliance import events, limits
from appliance.osutil import durable
from appliance.registry.release import Release
from appliance.registry.sync import journal_file, states
from appliance.registry.sync.journal_file import Bad, File, Update
from appliance.registry.sync.states import Event, State, WrongTransition

_log = logging.getLogger(__name__)


class Journal:
    """All of it. What changes is durable when a method returns; raises OSError when it can't be, and then nothing has."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "state"
        durable.mkdir(self._folder)
        self._now = self._load()
        if not self._now.device:
            self._write(msgspec.structs.replace(self._now, device=secrets.token_hex(16)))

    @property
    def device(self) -> str:
        """What tells this box from others, and nothing else about it."""
        return self._now.device

    @property
    def paused(self) -> bool:
        """Whether an operator said so."""
        return self._now.paused

    def counter(self, line: str) -> int:
        """The highest of a release that was installed here, -1: none was."""
        return self._now.counters.get(line, -1)

    @property
    def updates(self) -> dict[str, Update]:
        """The last update of each line."""
        return dict(self._now.updates)

    @property
    def quarantine(self) -> tuple[Bad, ...]:
        """What is never tried again."""
        return self._now.quarantine

    @property
    def quarantined(self) -> frozenset[str]:
        """Their digests."""
        return frozenset(bad.digest for bad in self._now.quarantine)

    def pause(self, paused: bool) -> None:
        """Remembers what an operator wants."""
        if paused != self.paused:
            self._write(msgspec.structs.replace(self._now, paused=paused))

    def begin(self, release: Release, now_s: int) -> Update:
        """An update starts, or a failed one is tried again.

        Raises WrongTransition while another one of the line goes on, or when the release is quarantined.
        """
        if release.digest in self.quarantined:
            raise WrongTransition(f"{release.line} {release.version} is quarantined", reason="SYNC_QUARANTINED")
        tries, before = 0, self._now.updates.get(release.line)
        if before is not None and before.state not in states.ENDS:
            same = before.digest == release.digest
            states.after(before.state, Event.RETRY if same else Event.GIVEN_UP)
            tries = before.tries if same else 0
        update = Update(release.version, release.digest, release.counter, State.DOWNLOADING, tries=tries, since_s=now_s)
        self._put(release.line, update)
        return update

    def needs(self, line: str, digests: tuple[str, ...]) -> None:
        """What the line's update is made of is known now."""
        update = self._now.updates[line]
        if update.needs != digests:
            self._put(line, msgspec.structs.replace(update, needs=digests))

    @property
    def pinned(self) -> frozenset[str]:
        """Digests of the blobs that updates under way need."""
        updates = self._now.updates.values()
        return frozenset(digest for u in updates if u.state in states.UNDER_WAY for digest in u.needs)

    @property
    def is_busy(self) -> bool:
        """Whether an update is under way, and none of those that only wait for their next try."""
        return any(u.state in states.UNDER_WAY - {State.FAILED} for u in self._now.updates.values())

    def try_again(self) -> None:
        """No failed update waits any longer."""
        waiting = {
            line: msgspec.structs.replace(update, retry_s=0)
            for line, update in self._now.updates.items()
            if update.state is State.FAILED and update.retry_s
        }
        if waiting:
            self._write(msgspec.structs.replace(self._now, updates={**self._now.updates, **waiting}))

    def tell(self, line: str, event: Event, now_s: int, reason: str = "") -> Update:
        """Something happened to the line's update; the state that it is in now. Raises WrongTransition."""
        before = self._now.updates.get(line)
        if before is None:
            raise WrongTransition(f"no update of {line} is known, so none can be {event.value.replace('_', ' ')}")
        update = msgspec.structs.replace(
            before,
            state=states.after(before.state, event),
            reason=reason[: limits.sync_reason_chars_max],
            since_s=now_s,
        )
        if update.state is State.FAILED:
            wait_s = min(limits.sync_retry_s_base * 2 ** min(update.tries, 20), limits.sync_retry_s_max)
            update = msgspec.structs.replace(update, tries=update.tries + 1, retry_s=now_s + wait_s)
        self._put(line, update)
        return update

    def lift(self, digest: str, now_s: int) -> bool:
        """An operator allows a quarantined version again; False when it was not on the list."""
        if digest not in self.quarantined:
            return False
        kept = tuple(bad for bad in self._now.quarantine if bad.digest != digest)
        updates = {
            line: msgspec.structs.replace(
                update, state=states.after(update.state, Event.LIFTED), tries=0, since_s=now_s
            )
            if update.digest == digest and update.state is State.QUARANTINED
            else update
            for line, update in self._now.updates.items()
        }
        self._write(msgspec.structs.replace(self._now, quarantine=kept, updates=updates))
        return True

    def _put(self, line: str, update: Update) -> None:
        """The update, and in the same write what follows from its state."""
        now = self._now
        counters, quarantine = dict(now.counters), now.quarantine
        if update.state in (State.PROBATION, State.COMMITTED):
            counters[line] = max(update.counter, counters.get(line, -1))
        if update.state in states.BAD and update.digest not in self.quarantined:
            bad = Bad(line, update.version, update.digest, update.reason, update.since_s)
            quarantine = (*quarantine, bad)[-limits.sync_journal_entries_max :]
        elif update.state is State.CANCELLED:
            quarantine = tuple(bad for bad in quarantine if bad.digest != update.digest)
        updates = {**now.updates, line: update}
        if len(updates) > limits.sync_journal_entries_max:
            raise WrongTransition(f"updates of {len(updates)} lines are more than this box remembers")
        self._write(msgspec.structs.replace(now, updates=updates, counters=counters, quarantine=quarantine))

    def _write(self, after: File) -> None:
        after = msgspec.structs.replace(after, writes=after.writes + 1)
        data = journal_file.encode(after)
        try:
            durable.write(self._folder / journal_file.NAME, data, mode=0o600, point="sync.journal")
        except BaseException:
            # After the rename it may be the new one that is there.
            self._now = self._load()
            raise
        self._now = after
        try:
            durable.write(self._folder / journal_file.COPY, data, mode=0o600, point="sync.journal_copy")
        except OSError as error:
            _log.warning(
                "the second copy of the journal of updates could not be written: %s",
                error,
                extra=events.RECORD_NOT_KEPT.of(),
            )

    def _load(self) -> File:
        """The newer of the two that can be read; what can't is set aside, and a new journal begins when neither can."""
        found = [journal_file.read(self._folder / name) for name in (journal_file.NAME, journal_file.COPY)]
        return max((file for file in found if file is not None), key=lambda file: file.writes, default=File())
