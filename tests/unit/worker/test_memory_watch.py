"""Which engine has to end for its memory, and that it does: on processes that take what a test says."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.osutil.memory_bound import reserve_bytes
from appliance.osutil.memory_room import Room
from appliance.worker.memory_watch import MemoryWatch, Taken, culprit, over

MIB = 1024 * 1024
GIB = 1024 * MIB
BOX = Room(16 * GIB, 8 * GIB)
SHORT = Room(16 * GIB, 300 * MIB)


@pytest.mark.parametrize(
    ("private_mib", "limit", "loading", "says"),
    [
        (100, 200, False, ""),
        (200, 200, False, ""),
        (225, 200, False, ""),  # the slack: 5 % and 16 MiB
        (227, 200, False, "took more than limits.memory_mib = 200 MiB and was ended"),
        (600, 200, True, ""),
        (700, 200, True, "took more than limits.memory_mib = 200 MiB and was ended"),
        (15_000, 0, False, ""),
        (17_000, 0, False, "took more than the 15872 MiB that an engine may have on this machine and was ended"),
        (17_000, 0, True, "took more than the 15872 MiB that an engine may have on this machine and was ended"),
        (17_000, 99_999, False, "took more than the 15872 MiB that an engine may have on this machine and was ended"),
    ],
)
def test_over_its_own_bound(private_mib, limit, loading, says):
    assert over(private_mib * MIB, limit, BOX, loading=loading) == says


@pytest.mark.parametrize(
    ("grown_mib", "room", "index"),
    [
        ([0, 500, 300], SHORT, 1),
        ([0, 500, 300], BOX, None),
        ([100, 50], SHORT, None),
        ([128], SHORT, 0),
        ([], SHORT, None),
        ([-50, -10], SHORT, None),
    ],
)
def test_who_ends_when_the_box_runs_short(grown_mib, room, index):
    assert culprit([Taken(5 * GIB, mib * MIB) for mib in grown_mib], room) == index


@given(st.lists(st.integers(-(2**40), 2**40), max_size=8), st.integers(0, 2**40), st.integers(0, 2**40))
def test_nobody_ends_without_need_or_growth(grown, total, available):
    index = culprit([Taken(0, g) for g in grown], Room(total, available))
    if index is not None:
        assert available < reserve_bytes(total)
        assert grown[index] == max(grown) >= limits.memory_growth_bytes_min


class Box:
    """Processes by number, and what they have; ``ended`` are those that had to end, in order."""

    def __init__(self):
        self.private = {}
        self.room = BOX
        self.ended = []
        self.looks = 0
        self.watch = MemoryWatch(self._private, lambda: self.room)

    def _private(self, pid, swaps):
        self.looks += 1
        if pid not in self.private:
            raise ProcessLookupError(pid)
        return self.private[pid]

    def start(self, pid, limit_mib=0, mib=50):
        self.private[pid] = mib * MIB
        return self.watch.add(pid, limit_mib, lambda: self.ended.append(pid))


@pytest.fixture
def run():
    """Runs a test's coroutine with a box, in a loop."""

    def go(scenario):
        async def all_of_it():
            await scenario(Box())

        asyncio.run(all_of_it())

    return go


def test_an_engine_beyond_its_limit_ends_once_and_others_don_t(run):
    async def scenario(box):
        greedy, other = box.start(1, limit_mib=200), box.start(2, limit_mib=200)
        for watched in (greedy, other):
            watched.loaded()
        box.watch.look()
        assert box.ended == []
        box.private[1] = 300 * MIB
        box.watch.look()
        box.watch.look()
        assert box.ended == [1]
        assert greedy.verdict == "took more than limits.memory_mib = 200 MiB and was ended"
        assert other.verdict == ""

    run(scenario)


def test_the_one_that_grew_ends_when_the_box_is_short(run):
    async def scenario(box):
        large, leaking = box.start(1, mib=8000), box.start(2, mib=100)
        box.watch.look()
        for watched in (large, leaking):
            watched.loaded()
        box.private[2] = 2100 * MIB
        box.watch.look()
        assert box.ended == []
        box.room = SHORT
        box.watch.look()
        assert box.ended == [2]
        assert leaking.verdict == "grew by 2000 MiB while the machine had only 300 MiB left, and was ended"
        box.private[1] = 9000 * MIB
        box.watch.look()  # not one more before the first one's memory is back
        assert box.ended == [2]
        box.watch.remove(leaking)
        box.watch.look()
        assert box.ended == [2, 1]

    run(scenario)


def test_a_load_counts_as_growth(run):
    async def scenario(box):
        box.start(1)
        box.private[1] = 4000 * MIB
        box.room = SHORT
        box.watch.look()
        assert box.ended == [1]

    run(scenario)


@pytest.mark.parametrize("room", [None, BOX])
def test_what_cannot_be_read_ends_nobody(run, room):
    async def scenario(box):
        box.start(1, limit_mib=1)
        box.room = room
        if room is not None:
            del box.private[1]
        box.watch.look()
        assert box.ended == []

    run(scenario)


def test_it_looks_by_itself_while_there_are_engines(run):
    async def scenario(box):
        watched = box.start(1, limit_mib=100, mib=5000)
        deadline = asyncio.get_running_loop().time() + 30
        while not box.ended:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0)
        box.watch.remove(watched)
        assert box.watch._timer is None
        box.start(2)
        assert box.watch._timer is not None

    run(scenario)
