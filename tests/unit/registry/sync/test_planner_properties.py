"""What must hold of every plan, whatever the publisher released and whatever the box has."""

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import limits, windows
from appliance.registry.release import Release, Wave
from appliance.registry.sync import eligibility
from appliance.registry.sync.facts import Blob, Facts, Line, Policy, Stored
from appliance.registry.sync.planner import plan
from appliance.registry.sync.reasons import Why
from tests.support.sync_facts import BOX, MIB, NOW, carry_out, digest_of, facts, release, used_bytes

LINES, VERSIONS = ["press", "rotor", "vad"], ["1.0.0", "1.1.0", "2.0.0", "2.0.0-rc.1", "3.0.0"]
# Digests to draw from: versions share files.
FILES = [Blob(f"file-{n}", n * 4 * MIB) for n in range(1, 7)]


def contents_of(found: Release) -> frozenset[Blob] | None:
    """Some manifests are known, of others only the sum."""
    number = (LINES.index(found.line) * 5 + VERSIONS.index(found.version)) % 8
    return None if number == 7 else frozenset({FILES[number % 6], FILES[number * 5 % 6]})


def mostly(usual: object, *others: object) -> st.SearchStrategy:  # type: ignore[type-arg]
    """So that what is rare in one respect is not refused in another every time."""
    return st.sampled_from([usual] * 4 * len(others) + list(others))


RELEASES = st.builds(
    release,
    st.sampled_from(VERSIONS),
    st.integers(0, 6),
    st.sampled_from(LINES),
    channels=mostly(("stable",), ("candidate",), ("candidate", "stable")),
    regions=mostly((), ("south",), ("north",)),
    hardware=mostly((), ("x86_64+avx2",), ("cuda",)),
    minimum_appliance=mostly("0.0.0", "0.5.0"),
    waves=mostly((), (Wave(50, NOW - 5),), (Wave(1, NOW - 5), Wave(100, NOW + 60))),
    bytes=st.integers(0, 60).map(lambda n: n * MIB),
)
STORED = st.builds(
    lambda line, version, files, added_s, brought: Stored(
        line, version, digest_of(line, version), files, added_s, brought
    ),
    st.sampled_from(LINES),
    st.sampled_from(VERSIONS),
    st.frozensets(st.sampled_from(FILES), min_size=1, max_size=3),
    st.integers(0, 5),
    mostly(True, False),
)
POLICIES = st.builds(
    Policy,
    allow=mostly(("*",), ("p*", "vad")),
    deny=mostly((), ("rotor",)),
    pins=mostly({}, {"press": "1.0.0"}, {"vad": "2.0.0"}),
    windows=mostly((), (windows.parse("22:00-05:00"),), (windows.parse("07:00-09:00"),)),
    disk_bytes_max=st.sampled_from([0, 60 * MIB, 80 * MIB, 100 * MIB]),
    keep_previous=st.integers(0, 2),
    activate=mostly(True, False),
)


@st.composite
def situations(draw: st.DrawFn) -> Facts:
    """Mostly tight on the disk."""
    held = tuple(draw(st.lists(STORED, min_size=2, max_size=9, unique_by=lambda found: (found.line, found.version))))
    lines = {}
    for name in LINES:
        here = [found.version for found in held if found.line == name]
        if here:
            pick = st.sampled_from(["", *here])
            lines[name] = Line(draw(pick), draw(pick), draw(st.frozensets(pick, max_size=1)), draw(st.integers(-1, 3)))
    found = draw(st.lists(RELEASES, min_size=1, max_size=8, unique_by=lambda one: (one.line, one.version)))
    return facts(
        *found,
        policy=draw(POLICIES),
        stored=held,
        lines=lines,
        quarantined=draw(mostly({}, {digest_of("press", "2.0.0"): "worse", digest_of("vad", "1.1.0"): "worse"})),
        free_bytes=limits.sync_free_bytes_min + draw(st.integers(-4, 12)) * 4 * MIB,
        loose=draw(st.frozensets(st.sampled_from(FILES), max_size=1)),
        contents=contents_of,
        fresh_until_s=NOW + draw(mostly(60, 0)),
        paused=draw(mostly(False, True)),
    )


FEW = settings(max_examples=120, deadline=None)


@FEW
@given(situations())
def test_nothing_that_is_in_use_ever_goes(before: Facts) -> None:
    found = plan(before)
    for removal in found.removals:
        line = before.lines.get(removal.line, Line())
        assert removal.version not in {line.active, *line.in_use, before.policy.pins.get(removal.line)}
        assert removal.version != line.previous or before.policy.keep_previous == 0
        assert (removal.line, removal.version) not in {(i.release.line, i.release.version) for i in found.installs}
        assert next(s for s in before.stored if s.digest == removal.digest).brought


@FEW
@given(situations())
def test_the_disk_and_the_budget_are_never_exceeded(before: Facts) -> None:
    found = plan(before)
    after = carry_out(before, found)
    if any(install.disk_bytes for install in found.installs):
        assert after.free_bytes >= limits.sync_free_bytes_min
        if before.policy.disk_bytes_max:
            assert used_bytes(after.stored, after.loose) <= before.policy.disk_bytes_max
    else:
        assert found.removals == ()  # nothing goes for nothing


@FEW
@given(situations())
def test_nothing_that_is_not_allowed_is_ever_installed(before: Facts) -> None:
    found = plan(before)
    for install in found.installs:
        one, line = install.release, before.lines.get(install.release.line, Line())
        assert one in before.releases
        assert eligibility.why_not(one, before, line) is None
        assert one.digest not in before.quarantined
        assert before.policy.pins.get(one.line, one.version) == one.version
        assert one.line in before.policy.pins or (one.counter >= line.counter and BOX.channel in one.channels)
        assert before.now_s < before.fresh_until_s
        assert not before.paused
        assert install.activate is before.policy.activate


@FEW
@given(situations(), st.randoms(use_true_random=False))
def test_a_plan_depends_on_the_facts_and_not_on_their_order(before: Facts, random: Random) -> None:
    found, held = list(before.releases), list(before.stored)
    random.shuffle(found)
    random.shuffle(held)
    lines = dict(sorted(before.lines.items(), reverse=True))
    again = msgspec.structs.replace(before, releases=tuple(found), stored=tuple(held), lines=lines)
    assert plan(before) == plan(before) == plan(again)


@FEW
@given(situations())
def test_once_carried_out_there_is_nothing_left_to_do(before: Facts) -> None:
    first = plan(before)
    after = plan(carry_out(before, first))
    # What ran until now may go where nothing is kept: only what was too large for the disk can follow then.
    too_large = {(w.line, w.version) for w in first.waiting if w.reason.why is Why.DISK}
    assert {(i.release.line, i.release.version) for i in after.installs} <= too_large
    assert after.installs or not after.removals
    if before.policy.activate:
        assert {(i.release.line, i.release.version) for i in first.installs} <= set(after.installed)


@FEW
@given(situations())
def test_plans_come_to_an_end(before: Facts) -> None:
    now = before
    for _ in range(len(LINES) + 1):
        found = plan(now)
        now = carry_out(now, found)
    assert (found.installs, found.removals) == ((), ())


@FEW
@given(situations())
def test_every_line_is_installed_or_has_a_reason(before: Facts) -> None:
    found = plan(before)
    told = {i.release.line for i in found.installs} | {w.line for w in found.waiting} | {n for n, _ in found.installed}
    assert told == {one.line for one in before.releases}
    assert all(waiting.reason.words for waiting in found.waiting)
