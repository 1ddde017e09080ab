import pytest

from appliance.daemon import wishes
from appliance.questions import Desired


def want(active: str = "", *beside: str, previous: str = "") -> Desired:
    return Desired("m", active, beside, previous)


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
