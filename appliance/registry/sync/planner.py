"""The plan of a poll: what is installed, what goes to make room, and for all the rest why not. Pure.

Nothing is carried out here, so `appliance sync` can show the same plan that the next poll would follow.
"""

from enum import Enum
from typing import NamedTuple

from appliance.registry.release import Release
from appliance.registry.sync import budget, eligibility, windows
from appliance.registry.sync.facts import Facts, Line, Stored
from appliance.registry.sync.reasons import Reason, Why, moment


class Install(NamedTuple):
    """A release that should run, or with ``activate`` false only be stored. ``why``: a sentence.

    ``fetch_bytes`` come over the network, at most: 0 when all of it is here.
    """

    release: Release
    why: str
    fetch_bytes: int
    disk_bytes: int
    activate: bool


class Removal(NamedTuple):
    """A version that goes before anything is fetched, so that ``room_for`` fits."""

    line: str
    version: str
    digest: str
    room_for: str


class Waiting(NamedTuple):
    """The latest release of a line that is not installed, and why."""

    release: Release
    reason: Reason

    @property
    def line(self) -> str:
        """The release's."""
        return self.release.line

    @property
    def version(self) -> str:
        """The release's."""
        return self.release.version


class Alarm(str, Enum):
    """What somebody has to look at."""

    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Alarmed(NamedTuple):
    """``line`` is "" where it concerns all."""

    alarm: Alarm
    line: str
    words: str


class SyncPlan(NamedTuple):
    """``installs`` in the order to carry them out, after all ``removals``. ``installed``: (line, version), up to date."""

    installs: tuple[Install, ...] = ()
    removals: tuple[Removal, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    installed: tuple[tuple[str, str], ...] = ()
    alarms: tuple[Alarmed, ...] = ()

    @property
    def fetch_bytes(self) -> int:
        """What comes over the network, at most."""
        return sum(install.fetch_bytes for install in self.installs)

    @property
    def wakes_s(self) -> int:
        """When a reason ends by itself, the earliest (Unix time); 0: none does."""
        return min((w.reason.until_s for w in self.waiting if w.reason.until_s), default=0)


def plan(facts: Facts) -> SyncPlan:
    """What this box should do now. Every line with releases is in ``installs``, ``installed`` or ``waiting``."""
    digests = {(stored.line, stored.version): stored.digest for stored in facts.stored}
    by_line: dict[str, list[Release]] = {}
    for release in facts.releases:
        by_line.setdefault(release.line, []).append(release)
    wanted: list[tuple[Release, Line]] = []
    waiting: list[Waiting] = []
    installed: list[tuple[str, str]] = []
    for name in sorted(by_line):
        line = facts.lines.get(name, Line())
        active_digest = digests.get((name, line.active), "")
        choice = eligibility.choose(by_line[name], facts, line, active_digest)
        waiting += [Waiting(release, reason) for release, reason in choice.passed_over[:1]]
        if choice.release is None:
            continue
        if choice.release.digest == active_digest:
            installed.append((name, choice.release.version))
        elif held := _held(choice.release, line, facts, digests):
            waiting.append(Waiting(choice.release, held))
        else:
            wanted.append((choice.release, line))
    installs, removals, too_large = _room(wanted, facts, digests)
    return SyncPlan(
        installs, removals, (*waiting, *too_large), tuple(installed), tuple(_alarms(facts, by_line, digests))
    )


def _held(release: Release, line: Line, facts: Facts, digests: dict[tuple[str, str], str]) -> Reason | None:
    """Why what this box should run is not installed now."""
    if facts.fresh_until_s <= facts.now_s:
        return Reason(Why.EXPIRED, f"the publisher's metadata have expired at {moment(facts.fresh_until_s)}")
    if facts.paused:
        return Reason(Why.PAUSED, "updates are paused: appliance sync resume")
    if release.digest == line.retry_digest and facts.now_s < line.retry_s:
        again = moment(line.retry_s)
        return Reason(Why.RETRY, f"it failed, and is tried again at {again}: {line.failure}", line.retry_s)
    here = digests.get((release.line, release.version), release.digest)
    if here != release.digest:
        words = f"another model is stored as {release.line} {release.version}: appliance models remove it"
        return Reason(Why.CONFLICT, words)
    if line.stopped:
        return Reason(Why.STOPPED, f"{release.line} was deactivated here: appliance models activate {release.line}")
    if not facts.policy.activate and (release.line, release.version) in digests:
        return Reason(Why.BY_HAND, "it is stored; registry.activate is false: activate it by hand")
    if not windows.is_open(facts.policy.windows, facts.now_s, facts.zone):
        opens_s = windows.opens_s(facts.policy.windows, facts.now_s, facts.zone)
        return Reason(Why.WINDOW, f"the next of registry.windows opens at {moment(opens_s)}", opens_s)
    return None


def _room(
    wanted: list[tuple[Release, Line]], facts: Facts, digests: dict[tuple[str, str], str]
) -> tuple[tuple[Install, ...], tuple[Removal, ...], tuple[Waiting, ...]]:
    """Those that fit, one after the other, and what goes for them."""
    policy = facts.policy
    if not wanted:
        return (), (), ()
    kept = budget.kept(facts.stored, facts.lines, policy.pins, policy.keep_previous)
    disk = budget.Disk(facts, kept | {(release.line, release.version) for release, _ in wanted})
    installs, removals, too_large = [], [], []
    for release, line in wanted:
        if digests.get((release.line, release.version)) == release.digest:
            installs.append(Install(release, _why(release, line, policy.pins), 0, 0, policy.activate))
            continue
        contents = facts.contents(release)
        need = disk.need(contents, release.bytes)
        fit = disk.fit(need, contents)
        if fit.missing_bytes:
            words = f"it needs {need.disk_bytes:,} bytes of disk, {fit.missing_bytes:,} more than there may be"
            too_large.append(Waiting(release, Reason(Why.DISK, words)))
            continue
        disk.take(need, fit, contents)
        removals += [_removal(stored, release) for stored in fit.removals]
        installs.append(Install(release, _why(release, line, policy.pins), *need, policy.activate))
    return tuple(installs), tuple(removals), tuple(too_large)


def _removal(stored: Stored, release: Release) -> Removal:
    return Removal(stored.line, stored.version, stored.digest, f"{release.line} {release.version}")


def _why(release: Release, line: Line, pins: object) -> str:
    if isinstance(pins, dict) and release.line in pins:
        return "registry.pins asks for it"
    return f"release {release.counter} follows {line.active}" if line.active else "nothing of this line runs yet"


def _alarms(facts: Facts, by_line: dict[str, list[Release]], digests: dict[tuple[str, str], str]) -> list[Alarmed]:
    found = []
    if facts.fresh_until_s <= facts.now_s:
        since = moment(facts.fresh_until_s)
        words = f"the publisher's metadata have expired at {since}: what runs goes on, nothing new is installed"
        found.append(Alarmed(Alarm.EXPIRED, "", words))
    for name, line in sorted(facts.lines.items()):
        # A model that an operator added was never released, and is nobody's business.
        if not line.active or line.counter < 0:
            continue
        digest = digests.get((name, line.active), "")
        if all(release.digest != digest for release in by_line.get(name, [])):
            words = f"{name} {line.active}, which runs, is not released any more"
            found.append(Alarmed(Alarm.WITHDRAWN, name, words))
    return found
