import random
from collections.abc import Iterator
from typing import Any

import pytest
from flaky_source import FlakyBlob, FlakySource, Turn
from http_rig import PLACE, Rig, read_all
from registry_simulator import Fault, RegistrySimulator

from appliance import limits
from appliance.clock import FakeClock
from appliance.errors import ApplianceError
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


@pytest.mark.parametrize("failure", [Unreachable("x"), Absent("x"), Malformed("x"), Refused("x")])
def test_the_next_one_has_it(failure: Exception) -> None:
    first, other = flaky(Turn(refuse=failure)), flaky()
    assert read_all(Mirrors([first, other], FakeClock()), DIGEST) == (0, DATA)
    assert (len(first.asked), len(other.asked)) == (1, 1)


@pytest.mark.parametrize(
    ("failure", "warnings"),
    [(Refused("the cache wants a user"), 1), (Malformed("other bytes"), 1), (Unreachable("x"), 0)],
)
def test_what_an_operator_must_set_right_is_told_once_though_another_one_answers(
    failure: Exception, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    first, other = flaky(*[Turn(refuse=failure)] * 3), flaky(*[Turn(refuse=Absent("y"))] * 2)
    mirrors = Mirrors([first, other], clock)
    for _ in range(2):
        with pytest.raises(type(failure)):
            read_all(mirrors, DIGEST)
    assert len(first.asked) == 2
    assert [record.getMessage() for record in caplog.records] == [f"flaky is passed over: {failure}"] * warnings
    clock.advance(limits.http_mirror_pause_s + 1)
    assert read_all(mirrors, DIGEST) == (0, DATA)
    assert len(caplog.records) == 2 * warnings


def test_a_password_that_one_of_them_does_not_take_is_not_sent_there_again_and_again() -> None:
    first, other = flaky(*[Turn(refuse=Refused("wrong password"))] * 9), flaky()
    mirrors = Mirrors([first, other], FakeClock())
    for _ in range(5):
        read_all(mirrors, DIGEST, length=5)
    assert (len(first.asked), len(other.asked)) == (1, 5)


def test_a_stream_that_a_server_ends_with_a_refusal_goes_on_elsewhere() -> None:
    class Refusing(FlakySource):
        def blob(self, *args: Any, **options: Any) -> FlakyBlob:
            made = super().blob(*args, **options)
            made.read = Refusing.refuse  # type: ignore[method-assign]
            return made

        @staticmethod
        def refuse(_size: int) -> bytes:
            raise Refused("certificate revoked")

    first, other = Refusing(DATA), flaky()
    mirrors = Mirrors([first, other], FakeClock())
    with mirrors.blob(PLACE, DIGEST) as blob, pytest.raises(Refused):
        blob.read(10)
    assert read_all(mirrors, DIGEST) == (0, DATA)
    assert (len(first.asked), len(other.asked)) == (1, 1)


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
        ([Refused("a"), Absent("b")], Refused),
        ([Absent("a"), Refused("b")], Refused),
        ([Refused("a"), Unreachable("b")], Unreachable),
        ([Refused("a"), Malformed("b"), Absent("c")], Malformed),
    ],
)
def test_what_is_told_when_none_has_it(failures: list[ApplianceError], told: type[ApplianceError]) -> None:
    with pytest.raises(told) as raised:
        read_all(Mirrors([flaky(Turn(refuse=each)) for each in failures], FakeClock()), DIGEST)
    # Nobody's words are lost behind those of another, but for "I haven't got it".
    kinds = {type(each) for each in failures}
    kept = {str(each) for each in failures if not isinstance(each, Absent) or kinds == {Absent}}
    assert set(str(raised.value).split("; ")) <= kept
    assert kinds == {Absent} or set(str(raised.value).split("; ")) == kept
    assert raised.value.reason == told.default_reason


def test_the_reason_and_the_wish_for_patience_survive() -> None:
    failures = [Refused("a", reason="REGISTRY_CERTIFICATE"), Unreachable("b", retry_after_s=60)]
    with pytest.raises(Unreachable, match="b; a") as busy:
        read_all(Mirrors([flaky(Turn(refuse=each)) for each in failures], FakeClock()), DIGEST)
    assert busy.value.retry_after_s == 60
    refusals = [failures[0], Refused("c")]
    with pytest.raises(Refused, match="a; c") as refused:
        read_all(Mirrors([flaky(Turn(refuse=each)) for each in refusals], FakeClock()), DIGEST)
    assert refused.value.reason == "REGISTRY_CERTIFICATE"


def test_a_registry_that_wants_a_login_and_a_mirror_that_does_not(
    registry: RegistrySimulator, second: RegistrySimulator
) -> None:
    registry.login = "box:secret"
    for each in (registry, second):
        each.add_manifest(PLACE, "1.0.0", b"{}")
        each.add_blob(PLACE, DATA)
    mirrors = Mirrors([Rig(registry).source, Rig(second).source], FakeClock())
    assert mirrors.manifest(PLACE, "1.0.0", bytes_max=100) is not None
    assert mirrors.tags(PLACE) == ["1.0.0"]
    assert read_all(mirrors, DIGEST) == (0, DATA)
    assert len(registry.seen) == 1
    second.login = "box:another"
    with pytest.raises(Refused, match="wants a user"):
        mirrors.tags(PLACE)


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
