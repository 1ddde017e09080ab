"""The choice among a version's instances, without any of them."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.worker.instances import home_of, least_busy, number_of


class Stub(NamedTuple):
    in_flight: int = 0
    seed: int = 0


def stubs(*counts: int) -> list[Stub]:
    return [Stub(count) for count in counts]


def named(*names: str) -> list[Stub]:
    return [Stub(0, number_of(name)) for name in names]


@pytest.mark.parametrize(
    ("counts", "turn", "index"),
    [
        ((0, 0, 0), 0, 0),
        ((0, 0, 0), 2, 2),
        ((0, 0, 0), 7, 1),
        ((1, 0, 0), 0, 1),
        ((3, 2, 2), 0, 1),
        ((3, 2, 2), 2, 2),
        ((2, 2, 3), 2, 0),
        ((5,), 9, 0),
    ],
)
def test_the_least_busy_from_the_turn_on(counts: tuple[int, ...], turn: int, index: int) -> None:
    assert least_busy(stubs(*counts), turn) == index


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.integers(0, 2**22))
def test_nobody_has_fewer(counts: list[int], turn: int) -> None:
    assert counts[least_busy(stubs(*counts), turn)] == min(counts)


@given(st.lists(st.text(max_size=8), min_size=2, max_size=6, unique=True), st.text(), st.randoms())
def test_a_home_depends_on_nothing_but_the_names(names: list[str], key: str, random) -> None:
    instances = named(*names)
    home = home_of(instances, number_of(key))
    random.shuffle(instances)
    assert home_of(instances, number_of(key)) == home
    # Whoever else goes, it stays.
    for gone in instances:
        if gone != home:
            assert home_of([i for i in instances if i != gone], number_of(key)) == home


@pytest.mark.parametrize("count", [2, 3, 8])
def test_homes_are_spread_evenly(count: int) -> None:
    """Sequences are named in a row more often than not."""
    instances = named(*(f"/run/sockets/{n}.sock" for n in range(count)))
    keys = [number_of(f"local\0{n}") for n in range(1000 * count)]
    found = [home_of(instances, key) for key in keys]
    for instance in instances:
        # Five standard deviations of a fair draw.
        assert abs(found.count(instance) - 1000) < 5 * 1000**0.5


def test_every_process_computes_the_same() -> None:
    """Python's own hash would differ from process to process."""
    assert number_of("local\0" + "1") == 3000444150172082666
