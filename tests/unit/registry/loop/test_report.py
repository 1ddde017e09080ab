"""What operators are told of a plan."""

from appliance.registry.loop import report
from appliance.registry.sync.planner import Install, Removal, SyncPlan, Waiting
from appliance.registry.sync.reasons import Reason, Why
from appliance.registry.trust.verified import RoleState, Verified
from tests.support.sync_facts import NOW, release

FRESH = Verified(
    (), (), tuple(RoleState(name, 1, NOW + 86_400) for name in ("root", "timestamp", "snapshot", "targets"))
)


def waiting(why: Why, version: str = "2.0.0", line: str = "press") -> Waiting:
    return Waiting(release(version, 2, line), Reason(why, "some words"))


PLAN = SyncPlan(
    installs=(Install(release("3.0.0", 3, "alloy"), "release 3 follows 2.0.0", 100, 200, True),),
    removals=(Removal("alloy", "1.0.0", "sha256:x", "alloy 3.0.0"),),
    waiting=(
        waiting(Why.CHANNEL),
        waiting(Why.WAVE, line="vad"),
        waiting(Why.RETRY, line="zinc"),
        waiting(Why.DISK, line="ore"),
    ),
    installed=(("press", "1.0.0"), ("gear", "7.0.0")),
)


def test_each_line_once_by_name() -> None:
    found = {line.line: (line.version, line.state, line.reason) for line in report.lines(PLAN)}
    assert found == {
        "alloy": ("3.0.0", "installing", "release 3 follows 2.0.0"),
        "gear": ("7.0.0", "installed", ""),
        "ore": ("2.0.0", "refused", "some words"),
        "press": ("1.0.0", "installed", "not 2.0.0: some words"),
        "vad": ("2.0.0", "waiting", "some words"),
        "zinc": ("2.0.0", "failed", "some words"),
    }
    assert list(found) == sorted(found)


def test_a_plan_tells_what_comes_what_goes_and_the_rest() -> None:
    planned = report.planned(PLAN, "https://models.example", 5)
    assert [(i.line, i.version, i.fetch_bytes, i.disk_bytes) for i in planned.installs] == [
        ("alloy", "3.0.0", 100, 200)
    ]
    assert [(r.line, r.version, r.room_for) for r in planned.removals] == [("alloy", "1.0.0", "alloy 3.0.0")]
    assert [line.line for line in planned.lines] == ["gear", "ore", "press", "vad", "zinc"]


def test_what_somebody_has_to_look_at() -> None:
    found = report.alarms(PLAN, FRESH, NOW)
    assert found == ("zinc 2.0.0 is not installed: some words", "ore 2.0.0 is not installed: some words")
    assert "expire soon" in report.alarms(SyncPlan(), FRESH, NOW + 86_000)[0]
