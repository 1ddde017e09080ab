"""Plans in tables: what is installed, what is held back, what goes for it, and what somebody has to know."""

import pytest

from appliance import limits, windows
from appliance.config import RegistryConfig
from appliance.registry.release import Wave
from appliance.registry.sync.facts import Blob, Device, Facts, Line, Policy, device_of, policy_of
from appliance.registry.sync.planner import Alarm, SyncPlan, plan
from appliance.registry.sync.reasons import Why
from tests.support.sync_facts import MIB, NOW, blobs, carry_out, facts, release, runs, stored

ONE, TWO, THREE = release("1.0.0", 1), release("2.0.0", 2), release("3.0.0", 3)
SPARE = limits.sync_free_bytes_min + limits.sync_overhead_bytes
AT_NIGHT = Policy(windows=(windows.parse("22:00-05:00"),))  # now it is 08:00 UTC


def short(found: SyncPlan) -> tuple[list[str], list[str], list[tuple[str, Why]]]:
    """Installs, removals, and what waits."""
    return (
        [f"{i.release.line}:{i.release.version}" for i in found.installs],
        [f"{r.line}:{r.version}" for r in found.removals],
        [(w.version, w.reason.why) for w in found.waiting],
    )


def test_nothing_released() -> None:
    assert plan(facts()) == SyncPlan()


def test_a_first_version() -> None:
    (install,) = plan(facts(ONE)).installs
    assert (install.release, install.fetch_bytes, install.activate) == (ONE, 10 * MIB, True)
    assert install.why == "nothing of this line runs yet"


def test_the_next_version() -> None:
    found = plan(facts(ONE, TWO, stored=(stored(),), lines=runs("1.0.0")))
    assert short(found) == (["press:2.0.0"], [], [])
    assert found.installs[0].why == "release 2 follows 1.0.0"


def test_up_to_date() -> None:
    found = plan(facts(ONE, stored=(stored(),), lines=runs("1.0.0")))
    assert found == SyncPlan(installed=(("press", "1.0.0"),))


def test_what_is_stored_is_only_activated() -> None:
    before = facts(ONE, TWO, stored=(stored(), stored("2.0.0")), lines=runs("1.0.0"), free_bytes=0)
    (install,) = plan(before).installs
    assert (install.fetch_bytes, install.disk_bytes, install.activate) == (0, 0, True)


def test_what_is_not_activated_by_itself_is_stored_once() -> None:
    by_hand = facts(TWO, policy=Policy(activate=False), stored=(stored(),), lines=runs("1.0.0"))
    assert [i.activate for i in plan(by_hand).installs] == [False]
    assert short(plan(carry_out(by_hand, plan(by_hand)))) == ([], [], [("2.0.0", Why.BY_HAND)])


@pytest.mark.parametrize(
    ("more", "why", "until_s"),
    [
        ({"fresh_until_s": NOW}, Why.EXPIRED, 0),
        ({"paused": True}, Why.PAUSED, 0),
        ({"policy": AT_NIGHT}, Why.WINDOW, NOW + 14 * 3600),
        ({"lines": runs("1.0.0", retry_s=NOW + 60, retry_digest=TWO.digest, tries=2)}, Why.RETRY, NOW + 60),
        ({"free_bytes": SPARE + 10 * MIB - 1}, Why.DISK, 0),
        ({"policy": Policy(disk_bytes_max=20 * MIB)}, Why.DISK, 0),
        ({"stored": (stored(), stored("2.0.0")._replace(digest="sha256:other"))}, Why.CONFLICT, 0),
    ],
)
def test_what_holds_a_version_back(more: dict[str, object], why: Why, until_s: int) -> None:
    known: dict[str, object] = {"stored": (stored(),), "lines": runs("1.0.0"), **more}
    found = plan(facts(ONE, TWO, **known))
    assert short(found) == ([], [], [("2.0.0", why)])
    assert found.wakes_s == until_s
    assert found.waiting[0].reason.words


@pytest.mark.parametrize(
    "more",
    [
        {"policy": AT_NIGHT, "now_s": NOW + 14 * 3600, "fresh_until_s": NOW + 90_000},
        {"lines": runs("1.0.0", retry_s=NOW, retry_digest=TWO.digest)},
        # What failed was another one.
        {"lines": runs("1.0.0", retry_s=NOW + 60, retry_digest=ONE.digest)},
        {"free_bytes": SPARE + 10 * MIB},
        {"policy": Policy(disk_bytes_max=20 * MIB + limits.sync_overhead_bytes)},
    ],
)
def test_what_no_longer_holds_it_back(more: dict[str, object]) -> None:
    known: dict[str, object] = {"stored": (stored(),), "lines": runs("1.0.0"), **more}
    assert short(plan(facts(ONE, TWO, **known)))[0] == ["press:2.0.0"]


def test_the_latest_that_waits_is_told_beside_the_one_that_is_installed() -> None:
    later = release("3.0.0", 3, waves=(Wave(100, NOW + 99),))
    found = plan(facts(ONE, TWO, later, stored=(stored(),), lines=runs("1.0.0")))
    assert short(found) == (["press:2.0.0"], [], [("3.0.0", Why.WAVE)])
    assert found.wakes_s == NOW + 99


def test_a_pin_goes_back_to_an_older_release() -> None:
    pinned = Policy(pins={"press": "1.0.0"})
    found = plan(facts(ONE, TWO, policy=pinned, stored=(stored("2.0.0"),), lines=runs("2.0.0", counter=2)))
    assert found.installs[0].why == "registry.pins asks for it"
    assert short(found) == (["press:1.0.0"], [], [("2.0.0", Why.NOT_PINNED)])


def full(**more: object) -> Facts:
    """Four versions of 10 MiB each, 2.0.0 active, and room for 1 MiB."""
    versions = [stored(f"{n}.0.0", added_s=n) for n in (0, 1, 2, 9)]
    known: dict[str, object] = {
        "stored": tuple(versions),
        "lines": runs("2.0.0", "1.0.0", counter=2),
        "free_bytes": SPARE + MIB,
        **more,
    }
    return facts(TWO, THREE, **known)


@pytest.mark.parametrize(
    ("more", "removals"),
    [
        ({}, ["press:0.0.0"]),
        ({"free_bytes": SPARE + 10 * MIB}, []),
        ({"free_bytes": SPARE - 10 * MIB}, ["press:0.0.0", "press:9.0.0"]),
        ({"lines": runs("2.0.0", "1.0.0", counter=2, in_use=frozenset({"0.0.0"}))}, ["press:9.0.0"]),
        ({"policy": Policy(pins={"press": "0.0.0", "vad": "1.0.0"}), "quarantined": {}}, None),
        # Kept: the one that was active before, and the one that came last.
        ({"policy": Policy(keep_previous=2)}, ["press:0.0.0"]),
        ({"policy": Policy(keep_previous=3)}, None),
        (
            {"policy": Policy(keep_previous=0), "free_bytes": SPARE - 20 * MIB},
            ["press:0.0.0", "press:1.0.0", "press:9.0.0"],
        ),
        ({"free_bytes": SPARE - 20 * MIB}, None),
        (
            {"policy": Policy(disk_bytes_max=40 * MIB + limits.sync_overhead_bytes), "free_bytes": 1 << 40},
            ["press:0.0.0"],
        ),
    ],
)
def test_what_goes_to_make_room(more: dict[str, object], removals: list[str] | None) -> None:
    found = plan(full(**more))
    if removals is None:
        assert (found.installs, found.removals) == ((), ())
        return
    assert short(found)[:2] == (["press:3.0.0"], removals)
    assert {removal.room_for for removal in found.removals} <= {"press 3.0.0"}


def test_what_an_operator_added_never_goes() -> None:
    by_hand = full(stored=tuple(v._replace(brought=False) for v in full().stored))
    assert short(plan(by_hand)) == ([], [], [("3.0.0", Why.DISK)])


def test_files_that_others_share_free_nothing() -> None:
    shared = frozenset({Blob("weights", 9 * MIB)})
    versions = [stored(f"{n}.0.0", added_s=n, blobs=shared | blobs("press", f"{n}", MIB)) for n in (0, 1, 2, 9)]
    # 0.0.0 and 9.0.0 free a megabyte each; the weights are needed by 2.0.0.
    assert short(plan(full(stored=tuple(versions))))[1] == []
    found = plan(full(stored=tuple(versions), contents=lambda _: shared | blobs("press", "3", 2 * MIB)))
    assert (found.installs[0].fetch_bytes, short(found)[1]) == (2 * MIB, ["press:0.0.0"])


def test_what_the_update_brings_again_is_not_freed_for_it() -> None:
    old = stored("0.0.0", blobs=frozenset({Blob("common", 10 * MIB), Blob("own", MIB)}))
    wanted = frozenset({Blob("common", 10 * MIB), Blob("new", 2 * MIB)})
    nothing_kept = Policy(keep_previous=0)
    before = facts(THREE, policy=nothing_kept, stored=(old,), free_bytes=SPARE + MIB, contents=lambda _: wanted)
    found = plan(before)
    assert (found.installs[0].fetch_bytes, short(found)[1]) == (2 * MIB, ["press:0.0.0"])


def test_a_version_that_would_free_nothing_is_spared() -> None:
    empty = stored("0.0.0", blobs=frozenset(), added_s=0)
    found = plan(full(stored=(empty, *full().stored[1:])))
    assert short(found)[1] == ["press:9.0.0"]


def test_bytes_that_are_here_already_are_not_fetched_again() -> None:
    contents = blobs("press", "2.0.0") | {Blob("begun", 8 * MIB), Blob("loose", 5 * MIB)}
    before = facts(
        TWO, contents=lambda _: contents, loose=frozenset({Blob("loose", 5 * MIB)}), partial={"begun": 6 * MIB}
    )
    assert plan(before).fetch_bytes == 12 * MIB


def test_one_update_takes_its_room_from_the_next() -> None:
    small = release("1.0.0", line="vad", bytes=3 * MIB)
    room = limits.sync_free_bytes_min + 2 * limits.sync_overhead_bytes
    two = [release(line="press"), release(line="rotor")]
    assert short(plan(facts(*two, small, free_bytes=room + 13 * MIB))) == (
        ["press:1.0.0", "vad:1.0.0"],
        [],
        [("1.0.0", Why.DISK)],
    )


@pytest.mark.parametrize(
    ("more", "alarms"),
    [
        ({}, []),
        ({"fresh_until_s": NOW - 5}, [(Alarm.EXPIRED, "")]),
        ({"lines": runs("9.0.0", counter=3)}, [(Alarm.WITHDRAWN, "press")]),
        ({"lines": {"gone": Line("1.0.0", counter=0)}}, [(Alarm.WITHDRAWN, "gone")]),
        # Of an operator's own model, no publisher ever said anything.
        ({"lines": {"mine": Line("1.0.0")}}, []),
        ({"lines": {"gone": Line("", counter=4)}}, []),
    ],
)
def test_alarms(more: dict[str, object], alarms: list[tuple[Alarm, str]]) -> None:
    known: dict[str, object] = {"stored": (stored(), stored("9.0.0")), "lines": runs("1.0.0"), **more}
    assert [(found.alarm, found.line) for found in plan(facts(ONE, **known)).alarms] == alarms


def test_facts_from_a_configuration() -> None:
    config = RegistryConfig(
        channel="candidate", region="north", hardware=("npu",), allow=("p*",), deny=("q",), pins=("press=1.4.0",),
        windows=("sat 00:00-24:00",), activate=False, disk_mib_max=3, keep_previous=2,
    )  # fmt: skip
    assert policy_of(config) == Policy(
        ("p*",), ("q",), {"press": "1.4.0"}, (windows.parse("sat 00:00-24:00"),), 3 * MIB, 2, False
    )
    assert policy_of(RegistryConfig()) == Policy()
    device = device_of(config, "me", "0.4.0", frozenset({"x86_64"}))
    assert device == Device("me", "0.4.0", "candidate", "north", frozenset({"x86_64", "npu"}))
