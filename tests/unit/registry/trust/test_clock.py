"""The clock's floor: it only rises, survives a restart and a decayed copy, and is not written with every poll."""

from pathlib import Path

import pytest

from appliance import limits
from appliance.clock import FakeClock
from appliance.osutil import faults
from appliance.registry.trust.clock import ClockFloor, as_datetime

T = 1_700_000_000


def floor_of(folder: Path, wall_s: int = 0) -> ClockFloor:
    return ClockFloor(folder, FakeClock(wall_ns=wall_s * 1_000_000_000))


def test_it_is_the_machines_clock_until_that_is_behind(tmp_path: Path) -> None:
    floor = floor_of(tmp_path, T)
    assert (floor.now_s(), floor.floor_s, floor.behind_s()) == (T, 0, 0)
    floor.agreed(T)
    assert (floor_of(tmp_path, T - 500).now_s(), floor_of(tmp_path, T - 500).behind_s()) == (T, 500)
    assert floor_of(tmp_path, T + 500).now_s() == T + 500
    assert floor_of(tmp_path, -T).behind_s() == T


@pytest.mark.parametrize("step", ["agreed", "expired"])
def test_it_never_falls(tmp_path: Path, step: str) -> None:
    floor = floor_of(tmp_path)
    getattr(floor, step)(T)
    getattr(floor, step)(T - 10_000)
    floor.signed(T - 10_000, T)
    assert floor.floor_s == T
    assert floor_of(tmp_path).floor_s == T


def test_polls_write_once_an_hour_and_an_expiry_at_once(tmp_path: Path) -> None:
    floor = floor_of(tmp_path)
    floor.agreed(T)
    floor.agreed(T + limits.clock_floor_step_s - 1)
    assert floor.now_s() == T + limits.clock_floor_step_s - 1
    assert floor_of(tmp_path).floor_s == T
    floor.expired(T + limits.clock_floor_step_s)
    assert floor_of(tmp_path).floor_s == T + limits.clock_floor_step_s
    floor.agreed(T + 2 * limits.clock_floor_step_s)
    assert floor_of(tmp_path).floor_s == T + 2 * limits.clock_floor_step_s


def test_signing_times_are_believed_until_something_expires(tmp_path: Path) -> None:
    floor = floor_of(tmp_path)
    floor.signed(T, T + 100)
    assert floor.floor_s == T
    floor.signed(10**15, T + 100)
    assert floor.floor_s == T + 99


@pytest.mark.parametrize("name", ["clock_floor", "clock_floor.copy"])
def test_every_flipped_bit_is_seen(tmp_path: Path, name: str) -> None:
    floor_of(tmp_path).expired(T)
    path = tmp_path / name
    good = path.read_bytes()
    for position in range(len(good)):
        for bit in (0, 3, 7):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            path.write_bytes(bad)
            assert floor_of(tmp_path).floor_s == T, (position, bit)
            path.unlink(missing_ok=True)
    path.write_bytes(b"x" * 10_000)
    assert floor_of(tmp_path).floor_s == T
    assert list(tmp_path.glob(f"{name}.broken*"))


def test_a_lost_floor_is_the_machines_clock(tmp_path: Path) -> None:
    floor_of(tmp_path).expired(T)
    for name in ("clock_floor", "clock_floor.copy"):
        (tmp_path / name).write_bytes(b"")
    assert floor_of(tmp_path, 5).now_s() == 5


def test_reset(tmp_path: Path) -> None:
    floor = floor_of(tmp_path)
    floor.reset()
    floor.expired(T)
    floor.reset()
    assert floor.now_s() == floor_of(tmp_path).now_s() == 0


def test_a_full_disk_keeps_the_floor_of_this_run(tmp_path: Path) -> None:
    floor = floor_of(tmp_path)
    faults.arm("trust.clock.write=enospc")
    try:
        with pytest.raises(OSError, match="No space"):
            floor.expired(T)
    finally:
        faults.arm("")
    assert floor.now_s() == T
    floor.expired(T)
    assert floor_of(tmp_path).floor_s == T


@pytest.mark.parametrize("at_s", [-1, 0, T, 10**15])
def test_any_time_is_a_datetime(tmp_path: Path, at_s: int) -> None:
    assert as_datetime(at_s).tzinfo is not None
    assert as_datetime(floor_of(tmp_path, at_s).now_s())
