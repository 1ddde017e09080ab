import pytest

from appliance.daemon import wishes
from appliance.versions import BadVersion, Desired, OnProbation

TRIAL = OnProbation(1_000, 60.0)
KEPT = OnProbation(1_000, 60.0, keep_previous=True)
NEXT = OnProbation(2_000, 60.0)
NEXT_KEPT = OnProbation(2_000, 60.0, keep_previous=True)
BAD = BadVersion("2", "sha256:2", "it failed")


def want(
    active: str = "", *beside: str, previous: str = "", on: OnProbation | None = None, bad: tuple[BadVersion, ...] = ()
) -> Desired:
    return Desired("m", active, beside, previous, on, bad)


@pytest.mark.parametrize(
    ("before", "version", "keep", "after"),
    [
        (want(), "1", False, want("1")),
        (want("1"), "2", False, want("2", previous="1")),
        (want("1"), "2", True, want("2", "1", previous="1")),
        (want("2", "1"), "1", False, want("1", previous="2")),
        (want("2", "1"), "1", True, want("1", "2", previous="2")),
        (want("2", "1", previous="1"), "2", False, want("2", "1", previous="1")),
        (want("2", "1", "3"), "3", False, want("3", "1", previous="2")),
    ],
)
def test_activated(before: Desired, version: str, keep: bool, after: Desired) -> None:
    assert wishes.activated(before, version, keep) == after


@pytest.mark.parametrize(
    ("before", "version", "after"),
    [
        (want(), "1", want("", "1")),
        (want("1"), "2", want("1", "2")),
        (want("1", "2"), "2", want("1", "2")),
        (want("1"), "1", want("1")),
    ],
)
def test_beside(before: Desired, version: str, after: Desired) -> None:
    assert wishes.beside(before, version) == after


@pytest.mark.parametrize(
    ("before", "versions", "after"),
    [
        (want("1", "2"), ["1"], want("", "2")),
        (want("1", "2"), ["2"], want("1")),
        (want("1", "2", previous="0"), ["1", "2", "0"], want(previous="0")),
        (want(), ["1"], want()),
    ],
)
def test_deactivated(before: Desired, versions: list[str], after: Desired) -> None:
    assert wishes.deactivated(before, versions) == after


def test_loaded_names_the_default_first() -> None:
    assert wishes.loaded(want("2", "1")) == ("2", "1")
    assert wishes.loaded(want("", "1")) == ("1",)
    assert wishes.loaded(want()) == ()


# --- probation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "version", "keep", "hold", "after"),
    [
        # The one before stays loaded for as long, or for longer if it was to be kept anyway.
        (want("1"), "2", False, True, want("2", "1", previous="1", on=NEXT)),
        (want("1"), "2", False, False, want("2", previous="1", on=NEXT)),
        (want("1"), "2", True, True, want("2", "1", previous="1", on=NEXT_KEPT)),
        (want("1"), "2", True, False, want("2", "1", previous="1", on=NEXT_KEPT)),
        # What is on probation itself is nothing to come back to.
        (want("2", "1", previous="1", on=TRIAL), "3", False, True, want("3", "1", previous="1", on=NEXT)),
        (want("2", "1", previous="1", on=KEPT), "3", False, True, want("3", "1", previous="1", on=NEXT_KEPT)),
        (want("2", previous="1", on=TRIAL), "3", True, True, want("3", "2", "1", previous="1", on=NEXT)),
        # It goes on where nothing changes.
        (want("2", "1", previous="1", on=TRIAL), "2", False, True, want("2", "1", previous="1", on=TRIAL)),
    ],
)
def test_activated_on_probation(before: Desired, version: str, keep: bool, hold: bool, after: Desired) -> None:
    assert wishes.activated(before, version, keep, NEXT, hold) == after


@pytest.mark.parametrize(
    ("before", "version", "keep", "after"),
    [
        (want("2", "1", previous="1", on=TRIAL), "3", False, want("3", previous="1")),
        (want("2", "1", "0", previous="1", on=TRIAL), "3", True, want("3", "0", "2", previous="1")),
        (want("2", "1", previous="1", on=TRIAL), "1", False, want("1", previous="2")),
        (want("2", "1", previous="1", on=KEPT), "3", False, want("3", "1", previous="1")),
    ],
)
def test_an_operator_ends_a_probation(before: Desired, version: str, keep: bool, after: Desired) -> None:
    assert wishes.activated(before, version, keep) == after


@pytest.mark.parametrize(
    ("before", "versions", "after"),
    [
        (want("2", "1", previous="1", on=TRIAL), ["2"], want(previous="1")),
        (want("2", "1", previous="1", on=KEPT), ["2"], want("", "1", previous="1")),
        (want("2", "1", previous="1", on=TRIAL), ["1"], want("2", previous="1", on=TRIAL)),
        (want("2", "1", previous="1", on=TRIAL, bad=(BAD,)), ["1", "2"], want(previous="1", bad=(BAD,))),
    ],
)
def test_deactivated_on_probation(before: Desired, versions: list[str], after: Desired) -> None:
    assert wishes.deactivated(before, versions) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (want("2", "1", "0", previous="1", on=TRIAL), want("2", "0", previous="1")),
        (want("2", "1", previous="1", on=KEPT), want("2", "1", previous="1")),
    ],
)
def test_committed(before: Desired, after: Desired) -> None:
    assert wishes.committed(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (want("2", "1", "0", previous="1", on=TRIAL), want("1", "0", bad=(BAD,))),
        (want("2", "1", previous="1", on=KEPT), want("1", bad=(BAD,))),
        (want("2", previous="1"), want("1", bad=(BAD,))),
        (want("2", "2", previous="1"), want("1", bad=(BAD,))),
    ],
)
def test_rolled_back(before: Desired, after: Desired) -> None:
    assert wishes.rolled_back(before, BAD) == after


def test_the_quarantine_remembers_each_version_once_and_forgets_the_oldest() -> None:
    desired = want("1")
    for number in [*range(100), 50]:
        desired = wishes.quarantined(desired, BadVersion(str(number), "", "bad"))
    remembered = [bad.version for bad in desired.quarantined]
    assert remembered == [str(n) for n in [*range(36, 50), *range(51, 100), 50]]
    assert [b.version for b in wishes.lifted(desired, "99").quarantined] == [v for v in remembered if v != "99"]
    assert wishes.lifted(desired, "nobody") == desired


def test_a_wish_keeps_what_is_quarantined() -> None:
    before = want("1", bad=(BAD,))
    assert wishes.activated(before, "3", keep_previous=False).quarantined == (BAD,)
    assert wishes.beside(before, "3").quarantined == (BAD,)
    assert wishes.deactivated(before, ["1"]).quarantined == (BAD,)
