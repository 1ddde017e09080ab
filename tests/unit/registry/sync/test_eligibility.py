"""Which release a box runs: one reason each in a table, and the order of versions."""

import pytest

from appliance.registry.release import Release, Wave
from appliance.registry.sync.eligibility import choose, why_not
from appliance.registry.sync.facts import Line, Policy
from appliance.registry.sync.reasons import Why
from tests.support.sync_facts import BOX, NOW, digest_of, facts, release

ONE = release()
LATER = (Wave(100, NOW + 7200),)
PINNED = Policy(pins={"press": "1.0.0"})


@pytest.mark.parametrize(
    ("more", "policy", "line", "why", "words"),
    [
        ({}, Policy(), Line(), None, ""),
        ({"channels": ("candidate", "stable")}, Policy(), Line(), None, ""),
        ({"channels": ("candidate",)}, Policy(), Line(), Why.CHANNEL, "released to candidate, this box takes stable"),
        ({"channels": ()}, Policy(), Line(), Why.CHANNEL, "released to none"),
        ({"regions": ("north", "south")}, Policy(), Line(), None, ""),
        ({"regions": ("north",)}, Policy(), Line(), Why.REGION, "for the regions north, this box is in south"),
        ({"hardware": ("cuda", "x86_64+avx2")}, Policy(), Line(), None, ""),
        ({"hardware": ("cuda", "x86_64+avx512")}, Policy(), Line(), Why.HARDWARE, "needs cuda or x86_64+avx512"),
        ({"minimum_appliance": "0.4.0"}, Policy(), Line(), None, ""),
        ({"minimum_appliance": "0.10.0"}, Policy(), Line(), Why.APPLIANCE, "needs appliance 0.10.0, this is 0.4.0"),
        ({"minimum_appliance": "0.4.0-rc.1"}, Policy(), Line(), None, ""),
        ({}, Policy(allow=("vad", "pr*")), Line(), None, ""),
        ({}, Policy(allow=()), Line(), Why.NOT_ALLOWED, "registry.allow doesn't name it"),
        ({}, Policy(allow=("pres",)), Line(), Why.NOT_ALLOWED, "registry.allow"),
        ({}, Policy(deny=("p*",)), Line(), Why.DENIED, "registry.deny names it (p*)"),
        ({}, Policy(allow=("press",), deny=("press",)), Line(), Why.DENIED, "registry.deny"),
        ({}, Policy(), Line(counter=1), None, ""),
        ({}, Policy(), Line(counter=2), Why.OLDER, "a later release was installed here"),
        ({"waves": (Wave(0, NOW - 5),)}, Policy(), Line(), Why.WAVE, "none of its waves reaches"),
        ({"waves": LATER}, Policy(), Line(), Why.WAVE, "opens at 2027-01-15 10:00 UTC"),
        # An operator's pin goes before the publisher's order, channel and waves.
        ({}, Policy(pins={"press": "2.0.0"}), Line(), Why.NOT_PINNED, "registry.pins asks for 2.0.0"),
        ({"waves": LATER, "channels": ("candidate",)}, PINNED, Line(counter=9), None, ""),
        # But not before what the release needs, or what the operator said otherwise.
        ({"regions": ("north",)}, PINNED, Line(), Why.REGION, "north"),
        ({"hardware": ("cuda",)}, PINNED, Line(), Why.HARDWARE, "cuda"),
        ({"minimum_appliance": "9.0.0"}, PINNED, Line(), Why.APPLIANCE, "9.0.0"),
        ({}, PINNED._replace(deny=("press",)), Line(), Why.DENIED, "registry.deny"),
    ],
)
def test_why_a_release_is_not_for_this_box(
    more: dict[str, object], policy: Policy, line: Line, why: Why | None, words: str
) -> None:
    reason = why_not(release(**more), facts(policy=policy), line)
    assert (reason.why if reason else None) is why
    assert words in (reason.words if reason else "")


@pytest.mark.parametrize("policy", [Policy(), PINNED])
def test_what_is_quarantined_never_runs(policy: Policy) -> None:
    reason = why_not(ONE, facts(policy=policy, quarantined={ONE.digest: "it was worse"}), Line())
    assert reason is not None
    assert reason.why is Why.QUARANTINED


def test_what_runs_asks_for_no_wave_and_no_order() -> None:
    waiting = release(waves=LATER)
    assert why_not(waiting, facts(), Line("1.0.0", counter=7), waiting.digest) is None
    # But it may have left the channel, or the region.
    moved = release(waves=LATER, channels=("candidate",))
    assert why_not(moved, facts(), Line("1.0.0"), moved.digest) is not None


def test_a_box_without_region_or_hardware() -> None:
    bare = BOX._replace(region="", hardware=frozenset())
    assert "this box is in none" in why_not(release(regions=("north",)), facts(device=bare), Line()).words  # type: ignore[union-attr]
    assert "has none of it" in why_not(release(hardware=("cuda",)), facts(device=bare), Line()).words  # type: ignore[union-attr]


def chosen(*found: Release, line: Line = Line(), active: str = "", **more: object) -> tuple[str, list[tuple[str, Why]]]:  # noqa: B008
    digest = digest_of("press", active) if active else ""
    choice = choose(found, facts(*found, **more), line, digest)
    passed = [(release.version, reason.why) for release, reason in choice.passed_over]
    return (choice.release.version if choice.release else ""), passed


def test_the_highest_counter_that_applies() -> None:
    three = release("3.0.0", 3, channels=("candidate",))
    assert chosen(release("1.0.0", 1), three, release("2.0.0", 2)) == ("2.0.0", [("3.0.0", Why.CHANNEL)])
    assert chosen(three) == ("", [("3.0.0", Why.CHANNEL)])


def test_the_counter_counts_and_not_the_version() -> None:
    assert chosen(release("2.0.0", 2), release("1.0.0", 3)) == ("1.0.0", [])


def test_a_mistaken_pair_of_counters_is_the_same_on_every_box() -> None:
    pair = [release("1.10.0", 2), release("1.9.0", 2)]
    assert chosen(*pair) == chosen(*reversed(pair)) == ("1.10.0", [])


def test_after_a_rollback_the_version_before_stays() -> None:
    two = release("2.0.0", 2)
    found = chosen(ONE, two, line=Line("1.0.0", counter=2), active="1.0.0", quarantined={two.digest: "it was worse"})
    assert found == ("1.0.0", [("2.0.0", Why.QUARANTINED)])


def test_a_withdrawn_release_brings_nothing_older_back() -> None:
    assert chosen(ONE, line=Line("2.0.0", counter=2), active="2.0.0") == ("", [("1.0.0", Why.OLDER)])
