"""The board between processes: who sees what in the page, and who gets the token when."""

import fcntl
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from appliance import limits
from appliance.clock import FakeClock
from appliance.worker.board import _QUEUE, Board, Turns, make_board

_DEADLINE = 30


@pytest.fixture
def fd() -> Iterator[int]:
    fd = make_board()
    yield fd
    os.close(fd)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(monotonic_ns=10**12)


def test_an_empty_board_wants_nothing(fd: int, clock: FakeClock) -> None:
    board = Board(fd, clock)
    assert (board.latency_wanted(), board.throughput_wanted()) == (False, False)
    # A machine that has just booted is not taken for one where everything was a moment ago.
    assert not Board(fd, FakeClock(0)).latency_wanted()


@pytest.mark.parametrize("slot", [0, 1, limits.board_slots_max - 1])
def test_one_process_notes_and_another_sees_it_for_a_while(fd: int, clock: FakeClock, slot: int) -> None:
    notice, other = Board(fd, clock).notice(slot), Board(fd, clock)
    notice.called()
    assert (other.latency_wanted(), other.throughput_wanted()) == (True, False)
    clock.advance(limits.latency_recent_ms / 1000 - 0.001)
    assert other.latency_wanted()
    clock.advance(0.001)
    assert not other.latency_wanted()
    notice.steps()
    assert (other.latency_wanted(), other.throughput_wanted()) == (False, True)
    clock.advance(limits.throughput_recent_ms / 1000)
    assert not other.throughput_wanted()


def test_the_last_of_all_engines_counts(fd: int, clock: FakeClock) -> None:
    board = Board(fd, clock)
    one, two = board.notice(3), board.notice(4)
    one.called()
    clock.advance(limits.latency_recent_ms / 2000)
    two.called()
    clock.advance(limits.latency_recent_ms / 2000)
    assert board.latency_wanted()


def test_who_takes_a_slot_over_begins_anew(fd: int, clock: FakeClock) -> None:
    board = Board(fd, clock)
    board.notice(3).called()
    board.notice(3)
    assert not board.latency_wanted()


def test_nobody_can_change_the_size_under_the_others(fd: int) -> None:
    for size in (0, mmap.PAGESIZE * 100):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


_RIVAL = """
import sys
from appliance import limits
from appliance.worker.board import Turns
limits.turn_wait_ms_max = int(sys.argv[3])
turns = Turns(int(sys.argv[1]), [int(core) for core in sys.argv[2].split(",")])
for _ in sys.stdin:
    with turns.turn() as had:
        print(had, flush=True)
        sys.stdin.readline()
    print("over", flush=True)
"""


class Rival:
    """Another throughput engine: takes its turn when told to, and gives it back when told to."""

    def __init__(self, fd: int, cores: str, wait_ms: int = 10_000) -> None:
        command = [sys.executable, "-c", _RIVAL, str(fd), cores, str(wait_ms)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(fd,)
        )

    def say(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def take(self) -> str:
        self.say()
        return self.heard()

    def give_back(self) -> None:
        self.say()
        assert self.heard() == "over"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=_DEADLINE)


@pytest.fixture
def rivals(fd: int) -> Iterator[list[Rival]]:
    started: list[Rival] = []
    yield started
    for rival in started:
        rival.end()


def test_only_one_has_the_token(fd: int, rivals: list[Rival], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "turn_wait_ms_max", 20)
    rivals.append(Rival(fd, "0,1"))
    assert rivals[0].take() == "True"
    with Turns(fd, (0, 1)).turn() as had:
        assert not had  # the step goes on all the same
    rivals[0].give_back()
    with Turns(fd, (0, 1)).turn() as had:
        assert had


@pytest.mark.parametrize(("cores", "had"), [((2, 3), True), ((1, 2), False), ((0,), False), ((0, 1, 2, 3), False)])
def test_only_engines_on_the_same_cores_wait(fd: int, rivals, monkeypatch: pytest.MonkeyPatch, cores, had) -> None:
    monkeypatch.setattr(limits, "turn_wait_ms_max", 20)
    rivals.append(Rival(fd, "0,1"))
    assert rivals[0].take() == "True"
    with Turns(fd, cores).turn() as found:
        assert found is had


def test_whoever_waits_is_next_although_the_other_wants_it_again(fd: int, rivals: list[Rival]) -> None:
    rivals += [Rival(fd, "0,1"), Rival(fd, "0,1")]
    first, second = rivals
    assert first.take() == "True"
    for _ in range(5):
        second.say()  # queues behind the first
        wait_until_queued(fd)
        first.say()
        assert first.heard() == "over"
        first.say()  # wants it again at once, behind the second
        assert second.heard() == "True"
        second.say()
        assert second.heard() == "over"
        assert first.heard() == "True"


def wait_until_queued(fd: int) -> None:
    until = time.monotonic() + _DEADLINE
    while time.monotonic() < until:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 2, _QUEUE)
        except OSError:
            return
        fcntl.lockf(fd, fcntl.LOCK_UN, 2, _QUEUE)
        time.sleep(0.001)
    pytest.fail("nobody has queued")


def test_a_dead_engine_lets_go_of_the_token(fd: int, rivals: list[Rival]) -> None:
    rivals.append(Rival(fd, "0,1"))
    assert rivals[0].take() == "True"
    rivals[0].end()
    with Turns(fd, (0, 1)).turn() as had:
        assert had


def test_a_step_that_fails_gives_the_token_back(fd: int, rivals: list[Rival], clock: FakeClock) -> None:
    board = Board(fd, clock)
    turns = Turns(fd, (0, 1), board.notice(0))
    with pytest.raises(ZeroDivisionError), turns.turn():
        1 / 0  # noqa: B018  # the step's failure
    assert board.throughput_wanted()
    rivals.append(Rival(fd, "0,1", wait_ms=20))
    assert rivals[0].take() == "True"
