import random
from collections.abc import Iterator

import pytest
from flaky_source import FlakySource, Turn
from http_rig import PLACE, Rig, read_all
from registry_simulator import Fault, RegistrySimulator

from appliance import limits
from appliance.clock import FakeClock
from appliance.registry.http.mirrors import Mirrors
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable
from appliance.store.manifest import digest_of

DATA = random.Random(10).randbytes(10_000)
DIGEST = digest_of(DATA)


@pytest.fixture
def second() -> Iterator[RegistrySimulator]:
    with RegistrySimulator().running() as running:
        yield running


def flaky(*turns: Turn) -> FlakySource:
    source = FlakySource(DATA)
    source.turns[DIGEST] = list(turns)
    return source


@pytest.mark.parametrize("failure", [Unreachable("x"), Absent("x"), Malformed("x")])
def test_the_next_one_has_it(failure: Exception) -> None:
    first, other = flaky(Turn(refuse=failure)), flaky()
    assert read_all(Mirrors([first, other], FakeClock()), DIGEST) == (0, DATA)
    assert (len(first.asked), len(other.asked)) == (1, 1)


def test_a_refusal_is_the_operators_matter() -> None:
    other = flaky()
    with pytest.raises(Refused):
        read_all(Mirrors([flaky(Turn(refuse=Refused("x"))), other], FakeClock()), DIGEST)
    assert other.asked == []


def test_who_failed_is_asked_last_for_a_while() -> None:
    clock = FakeClock()
    first, other = flaky(Turn(refuse=Unreachable("x"))), flaky()
    mirrors = Mirrors([first, other], clock)
    for _ in range(3):
        with mirrors.blob(PLACE, DIGEST, length=5) as blob:
            blob.read(5)
    assert (len(first.asked), len(other.asked)) == (1, 3)
    clock.advance(limits.http_mirror_pause_s + 1)
    with mirrors.blob(PLACE, DIGEST, length=5):
        pass
    assert (len(first.asked), len(other.asked)) == (2, 3)


def test_who_has_not_got_it_is_not_held_against_it() -> None:
    first, other = flaky(Turn(refuse=Absent("x"))), flaky()
    mirrors = Mirrors([first, other], FakeClock())
    read_all(mirrors, DIGEST)
    mirrors.blob(PLACE, DIGEST, length=5)
    assert len(first.asked) == 2


def test_a_stream_that_breaks_goes_on_at_the_other_without_the_first_ones_etag() -> None:
    first, other = flaky(Turn(cut=100)), flaky()
    mirrors = Mirrors([first, other], FakeClock())
    with mirrors.blob(PLACE, DIGEST) as blob:
        got = blob.read(1000)
        with pytest.raises(Unreachable):
            blob.read(1000)
    assert read_all(mirrors, DIGEST, offset=len(got), validator=blob.validator) == (100, DATA[100:])
    assert other.asked == [(DIGEST, 100, "")]


def test_who_sends_other_bytes_is_not_asked_again() -> None:
    first, other = flaky(Turn(instead=b"x" * len(DATA))), flaky()
    mirrors = Mirrors([first, other], FakeClock())
    assert read_all(mirrors, DIGEST) != (0, DATA)
    # The caller saw that it was wrong, and begins anew.
    assert read_all(mirrors, DIGEST) == (0, DATA)
    assert (len(first.asked), len(other.asked)) == (1, 1)


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([Absent("a"), Absent("b")], Absent),
        ([Absent("a"), Unreachable("b")], Unreachable),
        ([Unreachable("a"), Absent("b")], Unreachable),
        ([Malformed("a"), Unreachable("b")], Unreachable),
        ([Absent("a"), Malformed("b")], Malformed),
        ([Malformed("a"), Absent("b")], Malformed),
    ],
)
def test_what_is_told_when_none_has_it(failures: list[Exception], told: type[Exception]) -> None:
    with pytest.raises(told):
        read_all(Mirrors([flaky(Turn(refuse=each)) for each in failures], FakeClock()), DIGEST)


def test_manifests_and_tags_of_two_registries(registry: RegistrySimulator, second: RegistrySimulator) -> None:
    second.add_manifest(PLACE, "1.0.0", b"{}")
    mirrors = Mirrors([Rig(registry).source, Rig(second).source], FakeClock())
    assert mirrors.tags(PLACE) == ["1.0.0"]
    found = mirrors.manifest(PLACE, "1.0.0", bytes_max=100)
    assert found is not None
    registry.always["tags"] = Fault(status=503)
    assert mirrors.tags(PLACE) == ["1.0.0"]
    assert mirrors.manifest(PLACE, "1.0.0", bytes_max=100, validator=found.validator) is None
    # Both are named to people.
    assert mirrors.name == f"{registry.netloc}, {second.netloc}"
    second.always["tags"] = Fault(status=503)
    with pytest.raises(Unreachable):
        mirrors.tags(PLACE)


def test_no_mirrors() -> None:
    with pytest.raises(ValueError, match="no mirrors"):
        Mirrors([])
