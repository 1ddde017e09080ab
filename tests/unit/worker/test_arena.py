import fcntl
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.worker.arena import ALIGNMENT, Arena, ArenaBudget, align, arena_bytes, lay_out

MIB = 1024 * 1024


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_places_are_aligned_and_do_not_overlap(sizes: list[int]) -> None:
    layout = lay_out(sizes)
    end = 0
    for size, offset in zip(sizes, layout.offsets, strict=True):
        assert offset % ALIGNMENT == 0
        assert end <= offset < end + ALIGNMENT
        end = offset + size
    assert layout.end == end


@pytest.mark.parametrize(("offset", "aligned"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_align(offset: int, aligned: int) -> None:
    assert align(offset) == aligned


@given(st.integers(1, 2**31))
def test_an_arena_has_room_and_wastes_little(needed: int) -> None:
    got = arena_bytes(needed)
    assert needed <= got
    assert got < needed + max(limits.arena_step_bytes, needed // 4 + 1)


def test_nobody_can_change_its_size() -> None:
    arena = Arena.make(1, ArenaBudget())
    assert arena is not None
    assert fcntl.fcntl(arena.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    for size in (0, 2 * MIB):
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, size)
    arena.close()


def test_what_is_put_can_be_read() -> None:
    arena = Arena.make(200, ArenaBudget())
    assert arena is not None
    layout = lay_out([3, 5])
    arena.put([b"abc", memoryview(b"defgh")], layout)
    assert bytes(arena.read(0, 3)) == b"abc"
    assert bytes(arena.read(64, 69)) == b"defgh"
    with pytest.raises(TypeError):
        arena.read(0, 3)[0] = 1
    arena.close()


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 2), (0, MIB + 1), (MIB + 1, MIB + 1), (2**64, 2**64 + 1)])
def test_nothing_outside_can_be_read(start: int, end: int) -> None:
    arena = Arena.make(1, ArenaBudget())
    assert arena is not None
    with pytest.raises(ValueError, match=r"of an arena of 1048576"):
        arena.read(start, end)
    arena.close()
    with pytest.raises(ValueError, match="of an arena"):
        arena.read(0, 1)


def test_the_budget_bounds_all_together_and_gets_back_what_is_closed() -> None:
    budget = ArenaBudget(3 * MIB)
    first, second = Arena.make(MIB, budget), Arena.make(2 * MIB, budget)
    assert first is not None
    assert second is not None
    assert Arena.make(1, budget) is None
    first.close()
    first.close()
    third = Arena.make(MIB, budget)
    assert third is not None
    assert Arena.make(1, budget) is None


def test_none_is_larger_than_one_may_be() -> None:
    assert Arena.make(limits.arena_bytes_max + 1, ArenaBudget(1 << 60)) is None


def test_short_memory_is_no_error_and_costs_no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    budget = ArenaBudget(MIB)
    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len(os.listdir("/proc/self/fd"))
    assert Arena.make(1, budget) is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert budget.take(MIB)
