"""Which release a box runs: tables of one reason each, and what must hold whatever comes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.registry.loop.choose import Box, Known, choose, wave_share, why_not
from appliance.registry.release import Release, Wave

NOW = 1_800_000_000
BOX = Box("device-1", "0.4.0", region="south", hardware=frozenset({"x86_64", "avx2"}))


def release(version: str = "1.0.0", counter: int = 1, line: str = "press", **more: object) -> Release:
    digest = f"sha256:{counter:064x}"
    return Release(line, version, f"models/{line}", digest, 500, 1000, counter, NOW - 10, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "known", "pin", "words"),
    [
        ({}, Known(), "", ""),
        ({"channels": ("candidate", "stable")}, Known(), "", ""),
        ({"channels": ("candidate",)}, Known(), "", "released to candidate, this box takes stable"),
        ({"regions": ("north", "south")}, Known(), "", ""),
        ({"regions": ("north",)}, Known(), "", "for the regions north, this box is in south"),
        ({"hardware": ("cuda", "x86_64+avx2")}, Known(), "", ""),
        ({"hardware": ("cuda", "x86_64+avx512")}, Known(), "", "needs cuda or x86_64"),
        ({"minimum_appliance": "0.4.0"}, Known(), "", ""),
        ({"minimum_appliance": "0.10.0"}, Known(), "", "needs appliance 0.10.0, this is 0.4.0"),
        ({}, Known(quarantined=frozenset({release().digest})), "", "quarantined"),
        ({}, Known(counter=1), "", ""),
        ({}, Known(counter=2), "", "a later release has run here"),
        ({}, Known(counter=2), "1.0.0", ""),
        ({}, Known(), "2.0.0", "registry.pins asks for 2.0.0"),
        ({"channels": ("candidate",), "regions": ("north",)}, Known(), "1.0.0", ""),
        ({}, Known(quarantined=frozenset({release().digest})), "1.0.0", "quarantined"),
        ({"waves": (Wave(100, NOW),)}, Known(), "", ""),
        ({"waves": (Wave(0, NOW - 5), Wave(100, NOW + 90 * 60))}, Known(), "", "its wave opens in 90 min"),
        ({"waves": (Wave(100, NOW + 7200),)}, Known(), "", "its wave opens in 2 h"),
        ({"waves": (Wave(0, NOW - 5),)}, Known(), "", "none of its waves reaches"),
        # What runs already needs no wave.
        ({"waves": (Wave(100, NOW + 7200),)}, Known("1.0.0", release().digest, counter=1), "", ""),
    ],
)
def test_why_a_release_is_not_for_this_box(more: dict, known: Known, pin: str, words: str) -> None:  # type: ignore[type-arg]
    reason = why_not(release(**more), BOX, known, pin, NOW)
    assert words in reason
    assert bool(reason) is bool(words)


def chosen(*releases: Release, box: Box = BOX, **known: Known) -> dict[str, tuple[str, bool, str]]:
    return {
        c.line: (c.release.version if c.release else "", c.installed, c.reason)
        for c in choose(releases, box, known, NOW)
    }


def test_the_latest_release_that_applies() -> None:
    latest = release("3.0.0", 3, channels=("candidate",))
    assert chosen(release("1.0.0", 1), latest, release("2.0.0", 2)) == {
        "press": ("2.0.0", False, "3.0.0: it is released to candidate, this box takes stable")
    }
    assert chosen(latest) == {"press": ("", False, "3.0.0: it is released to candidate, this box takes stable")}


def test_an_older_version_that_is_released_again_counts_as_the_later() -> None:
    assert chosen(release("2.0.0", 2), release("1.0.0", 3))["press"][0] == "1.0.0"


def test_what_runs_is_installed() -> None:
    one = release()
    assert chosen(one, press=Known("1.0.0", one.digest, counter=1)) == {"press": ("1.0.0", True, "")}


@pytest.mark.parametrize(
    ("box", "lines"),
    [
        (BOX, {"press", "vad"}),
        (BOX._replace(allow=("pr*",)), {"press"}),
        (BOX._replace(deny=("vad",)), {"press"}),
        (BOX._replace(allow=("*",), deny=("*",)), set()),
        (BOX._replace(allow=()), set()),
    ],
)
def test_lines_by_patterns(box: Box, lines: set[str]) -> None:
    found = chosen(release(), release(line="vad"), box=box)
    assert {line for line, (version, _, _) in found.items() if version} == lines
    assert all(reason for version, _, reason in found.values() if not version)


def test_waves_are_the_same_for_ever_and_differ_by_release() -> None:
    one, other = release("1.0.0"), release("2.0.0", 2)
    shares = [wave_share(f"device-{n}", one) for n in range(2000)]
    assert wave_share("device-7", one) == shares[7]
    assert sum(share < 5 for share in shares) == pytest.approx(100, abs=40)
    assert sum(share < 25 for share in shares) == pytest.approx(500, abs=80)
    assert [wave_share(f"device-{n}", other) for n in range(50)] != shares[:50]


releases = st.lists(
    st.builds(
        lambda n, counter, channels, wave: release(f"{n}.0.0", counter, channels=channels, waves=wave),
        st.integers(0, 5),
        st.integers(0, 9),
        st.sampled_from([("stable",), ("candidate",), ("stable", "candidate")]),
        st.sampled_from([(), (Wave(50, NOW - 1),), (Wave(100, NOW + 1),)]),
    ),
    max_size=8,
)


@given(releases, st.integers(-1, 9), st.sets(st.integers(0, 9)))
def test_nothing_that_does_not_apply_is_ever_chosen(found: list[Release], counter: int, bad: set[int]) -> None:
    known = Known(counter=counter, quarantined=frozenset(f"sha256:{n:064x}" for n in bad))
    for choice in choose(found, BOX, {"press": known}, NOW):
        if choice.release is not None:
            assert why_not(choice.release, BOX, known, "", NOW) == ""
            assert choice.release.counter >= counter
            assert choice.release.counter not in bad
    assert choose(found, BOX, {"press": known}, NOW) == choose(list(reversed(found)), BOX, {"press": known}, NOW) or (
        len({each.counter for each in found}) < len(found)
    )


@given(releases)
def test_what_was_chosen_stays_chosen_once_it_runs(found: list[Release]) -> None:
    for choice in choose(found, BOX, {}, NOW):
        if choice.release is not None:
            runs = Known(choice.release.version, choice.release.digest, counter=choice.release.counter)
            again = choose(found, BOX, {"press": runs}, NOW)[0]
            assert again.release is not None
            assert again.release.counter >= choice.release.counter
            if again.release.digest == choice.release.digest:
                assert again.installed
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[Release]) == found
