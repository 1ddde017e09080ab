"""What operators are told of the update loop. Pure."""

from collections.abc import Iterable
from typing import Any

from appliance.registry.sync.planner import SyncPlan
from appliance.registry.sync.reasons import Why
from appliance.registry.trust.verified import Verified
from appliance.sync_questions import PlannedInstall, PlannedRemoval, SyncLine, SyncPlanned

# Alarms come so long before metadata expire; a timestamp is good for a day.
_ALARM_S = 6 * 3600
# These don't end by waiting: somebody has to do something.
_REFUSED = frozenset({Why.QUARANTINED, Why.CONFLICT, Why.DISK})
_ALARMING = _REFUSED | {Why.RETRY}


def lines(plan: SyncPlan) -> tuple[SyncLine, ...]:
    """The lines of `appliance sync status`, by name: what should run, or why the latest release doesn't."""
    found = dict(_at_rest(plan))
    for install in plan.installs:
        release = install.release
        found[release.line] = SyncLine(release.line, release.version, "installing", install.why, install.fetch_bytes)
    return tuple(found[name] for name in sorted(found))


def of_plan(plan: SyncPlan, verified: Verified | None, now_s: int) -> dict[str, Any]:
    """The fields of SyncStatus that a plan decides."""
    if verified is None:
        return {"lines": lines(plan)}
    fresh_until_ms = verified.fresh_until_s * 1000
    return {"lines": lines(plan), "alarms": alarms(plan, verified, now_s), "fresh_until_ms": fresh_until_ms}


def planned(plan: SyncPlan, source: str, polled_ms: int) -> SyncPlanned:
    """The answer to AskPlan."""
    busy = {install.release.line for install in plan.installs}
    return SyncPlanned(
        source,
        polled_ms,
        tuple(
            PlannedInstall(i.release.line, i.release.version, i.why, i.fetch_bytes, i.disk_bytes, i.activate)
            for i in plan.installs
        ),
        tuple(PlannedRemoval(removal.line, removal.version, removal.room_for) for removal in plan.removals),
        tuple(line for name, line in sorted(dict(_at_rest(plan)).items()) if name not in busy),
    )


def alarms(plan: SyncPlan, verified: Verified, now_s: int) -> tuple[str, ...]:
    """What somebody has to look at, as sentences."""
    found = [f"{problem.line or 'the publisher'}: {problem.message}" for problem in verified.problems]
    if now_s < verified.fresh_until_s < now_s + _ALARM_S:
        found.append("the publisher's metadata expire soon: then nothing new is installed")
    stuck = (w for w in plan.waiting if w.reason.why in _ALARMING)
    found += [f"{waiting.line} {waiting.version} is not installed: {waiting.reason.words}" for waiting in stuck]
    return (*found, *(alarm.words for alarm in plan.alarms))


def _at_rest(plan: SyncPlan) -> Iterable[tuple[str, SyncLine]]:
    """(line, what is told of it), the later one counts."""
    for waiting in plan.waiting:
        state = "failed" if waiting.reason.why is Why.RETRY else "waiting"
        state = "refused" if waiting.reason.why in _REFUSED else state
        yield waiting.line, SyncLine(waiting.line, waiting.version, state, waiting.reason.words)
    passed_over = {waiting.line: f"not {waiting.version}: {waiting.reason.words}" for waiting in plan.waiting}
    for line, version in plan.installed:
        yield line, SyncLine(line, version, "installed", passed_over.get(line, ""))
