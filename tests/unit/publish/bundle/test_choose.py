"""Which releases a stick gets: enough for every machine, and no more."""

import pytest

from appliance.errors import NotFound
from appliance.publish.bundle.choose import choose, is_wanted
from appliance.registry.release import Release, Wave

NOW_S = 1_800_000_000


def release(line: str, version: str, counter: int, **more: object) -> Release:
    known = {"repository": f"acme/models/{line}", "digest": f"sha256:{version}", "manifest_bytes": 1, "bytes": 1}
    return Release(line=line, version=version, counter=counter, released_s=1, **{**known, **more})  # type: ignore[arg-type]


ALL = [
    release("press", "1.0.0", 1),
    release("press", "2.0.0", 2),
    release("press", "3.0.0", 3, hardware=("cuda",)),
    release("press", "4.0.0", 4, channels=("candidate",)),
    release("vad", "1.0.0", 1),
    release("vad", "1.1.0", 2, regions=("eu",)),
    release("vad", "1.2.0", 3, waves=(Wave(10, 0), Wave(100, NOW_S + 1))),
    release("talk", "1.0.0", 1),
    release("talk", "2.0.0", 2, waves=(Wave(10, 0), Wave(100, NOW_S))),
    release("talk", "0.9.0", 3, minimum_appliance="99.0.0"),
]


@pytest.mark.parametrize(
    ("patterns", "channel", "expected"),
    [
        # Until the newest one that is for every machine, of each channel.
        ((), "", "press:2.0.0 press:3.0.0 press:4.0.0 talk:2.0.0 talk:0.9.0 vad:1.0.0 vad:1.1.0 vad:1.2.0"),
        (("press",), "", "press:2.0.0 press:3.0.0 press:4.0.0"),
        (("press",), "stable", "press:2.0.0 press:3.0.0"),
        (("press",), "candidate", "press:4.0.0"),
        (("press:1.0.0",), "", "press:1.0.0"),
        (("press:1.0.0", "press"), "stable", "press:1.0.0 press:2.0.0 press:3.0.0"),
        (("*a*",), "", "talk:2.0.0 talk:0.9.0 vad:1.0.0 vad:1.1.0 vad:1.2.0"),
        (("v?d:1.1.0", "talk:1.0.0"), "", "talk:1.0.0 vad:1.1.0"),
    ],
)
def test_what_is_chosen(patterns: tuple[str, ...], channel: str, expected: str) -> None:
    for releases in (ALL, ALL[::-1]):
        found = choose(releases, patterns, channel, NOW_S)
        assert " ".join(f"{r.line}:{r.version}" for r in found) == expected


@pytest.mark.parametrize(
    ("patterns", "channel", "reason"),
    [
        (("pres",), "", "NO_LINE"),
        (("press", "nothing*"), "", "NO_LINE"),
        (("vad",), "candidate", "NO_LINE"),
        (("press:9.0.0",), "", "NO_RELEASE"),
        (("press:4.0.0",), "stable", "NO_RELEASE"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(patterns: tuple[str, ...], channel: str, reason: str) -> None:
    with pytest.raises(NotFound) as caught:
        choose(ALL, patterns, channel, NOW_S)
    assert caught.value.reason == reason


def test_which_lines_are_wanted() -> None:
    assert is_wanted("press", ())
    assert is_wanted("press", ("vad", "pre*:1.0.0"))
    assert not is_wanted("press", ("vad", "Press"))
