"""What the supervisor deals out to engines, and how an engine takes it."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fake_models import fake_spec

from appliance import limits
from appliance.control import StartEngine
from appliance.model_spec import LlamaOptions, ModelSpec, OnnxOptions, Serving
from appliance.osutil.control_groups import ControlGroups
from appliance.worker import processors
from appliance.worker.board import Board, make_board
from appliance.worker.engine_seat import EngineSeat
from appliance.worker.processors import Processors, Seat


@pytest.fixture
def board_fd() -> Iterator[int]:
    fd = make_board()
    yield fd
    os.close(fd)


def spec(service_class: str = "latency", instances: int = 1, **fields: object) -> ModelSpec:
    serving = Serving(service_class=service_class, instances=instances)  # type: ignore[arg-type]  # of the table below
    return msgspec.structs.replace(fake_spec(), serving=serving, **fields)


@pytest.mark.parametrize(
    ("fields", "configured", "cores", "threads"),
    [
        ({}, 0, (0, 1, 2, 3), 1),
        ({}, 2, (0, 1, 2, 3), 2),
        ({"service_class": "throughput"}, 0, (1, 2, 3), 3),
        ({"service_class": "throughput"}, 2, (1, 2, 3), 2),
        ({"engine": "onnx", "onnx": OnnxOptions(threads=3)}, 2, (0, 1, 2, 3), 3),
        ({"service_class": "", "engine": "llama", "llama": LlamaOptions(threads=9)}, 2, (1, 2, 3), 3),
    ],
)
def test_seats(fields, configured: int, cores: tuple[int, ...], threads: int) -> None:
    seat = Processors(range(4)).seat(spec(**fields), 0, configured)
    assert seat == Seat(cores, threads, -1)


def test_without_cores_nothing_is_planned() -> None:
    assert Processors().seat(spec("throughput"), 3, 5) == Seat((), 5, -1)


def test_slots_are_dealt_out_and_come_back(board_fd: int) -> None:
    dealer = Processors((0, 1), board_fd=board_fd)
    seats = [dealer.seat(spec(), 0, 0) for _ in range(limits.board_slots_max + 1)]
    slots = [seat.slot for seat in seats]
    assert slots == [*range(limits.board_slots_max), -1]
    dealer.give_back(seats[-1])
    dealer.give_back(seats[7])
    assert [dealer.seat(spec(), 0, 0).slot for _ in range(2)] == [7, -1]


@pytest.mark.parametrize(
    ("service_class", "memory", "group"),
    [
        ("latency", False, ""),
        ("throughput", False, "throughput"),
        ("latency", True, "daemon/engine-1"),
        ("throughput", True, "throughput/engine-1"),
    ],
)
def test_an_engine_is_told_of_its_seat(
    board_fd: int, tmp_path: Path, service_class: str, memory: bool, group: str
) -> None:
    for name in ("daemon", "throughput"):
        (tmp_path / name).mkdir()
    groups = ControlGroups(tmp_path, memory)
    dealer = Processors((0, 1), realtime=True, board_fd=board_fd, groups=groups)
    model = spec(service_class)
    seat = dealer.seat(model, 0, 0)
    order = dealer.seated(StartEngine(model, "", 3), seat)
    assert (order.service_class, order.realtime, order.board_fd) == (service_class, True, board_fd)
    assert order.control_group == (str(tmp_path / group) if group else "")
    assert (order.cores, order.slot) == ((0, 1), 0)
    assert dealer.pass_fds == (board_fd,)
    dealer.give_back(seat)
    assert not list(tmp_path.rglob("engine-*"))


def test_without_a_group_an_engine_still_has_a_seat(board_fd: int, tmp_path: Path, caplog) -> None:
    """The kernel may refuse: too many groups, say."""
    dealer = Processors((0, 1), board_fd=board_fd, groups=ControlGroups(tmp_path / "gone", memory=True))
    assert dealer.seat(spec(), 0, 0) == Seat((0, 1), 1, 0, "")
    assert "no control group of its own" in caplog.text


def seat(board_fd: int, slot: int, service_class: str, cores: tuple[int, ...] = (0, 1)) -> EngineSeat:
    return EngineSeat(
        StartEngine(spec(), "", 3, cores=cores, service_class=service_class, board_fd=board_fd, slot=slot)
    )


def test_a_latency_engine_is_seen_by_a_throughput_engine_and_the_other_way_round(board_fd: int) -> None:
    quick, slow = seat(board_fd, 0, "latency"), seat(board_fd, 1, "throughput")
    assert not slow.latency_wanted()
    quick.called()
    assert slow.latency_wanted()
    turn = slow.turn(shares_cores=True)
    assert turn
    assert not quick.throughput_wanted()
    with turn() as had:
        assert had
        assert quick.throughput_wanted()


def test_who_has_no_place_on_the_board_says_nothing(board_fd: int) -> None:
    for mute in (seat(-1, -1, "latency"), seat(board_fd, -1, "latency")):
        mute.called()
        assert not mute.latency_wanted()
    assert not Board(board_fd).latency_wanted()


@pytest.mark.parametrize(
    ("fd", "service_class", "cores", "shares"),
    [(False, "throughput", (0,), True), (False, "latency", (0,), True), (True, "throughput", (), True), (True, "throughput", (0,), False), (True, "latency", (0,), False)],
)  # fmt: skip
def test_who_takes_no_turns(board_fd: int, fd: bool, service_class: str, cores, shares: bool) -> None:
    assert seat(board_fd if fd else -1, 0, service_class, cores).turn(shares) is None


def test_calls_of_a_throughput_engine_are_not_latency_work(board_fd: int) -> None:
    seat(board_fd, 0, "throughput").called()
    assert not Board(board_fd).latency_wanted()


@pytest.mark.parametrize(
    ("wanted", "refusal", "realtime", "warnings"),
    [
        (True, "", True, 0),
        (True, "the limit is 0", False, 1),
        (False, "the limit is 0", False, 0),
        (False, "", False, 0),
    ],
)
def test_what_is_found_out_and_logged_once(monkeypatch, caplog, wanted, refusal, realtime, warnings) -> None:
    from appliance.config import Config, EnginesConfig

    monkeypatch.setattr(processors.scheduling, "try_realtime", lambda: refusal)
    monkeypatch.setattr(processors, "_control_groups", lambda keep_realtime: None)
    found = processors.find_processors(Config(engines=EnginesConfig(realtime=wanted)))
    os.close(found.board_fd)
    assert found.realtime is realtime
    assert [r for r in caplog.records if r.levelname == "WARNING" and refusal in r.message][:2] == caplog.records[
        :warnings
    ]


@pytest.mark.parametrize(("refused", "kept"), [("", True), ("no share", False)])
def test_a_group_without_real_time_is_given_up(monkeypatch, tmp_path, refused: str, kept: bool) -> None:
    groups = ControlGroups(tmp_path)
    undone = []
    monkeypatch.setattr(processors.control_groups, "make_groups", lambda root: groups)
    monkeypatch.setattr(processors.control_groups, "undo", undone.append)
    monkeypatch.setattr(processors.scheduling, "try_realtime", lambda: refused)
    assert processors._control_groups(keep_realtime=True) == (groups if kept else None)
    assert undone == ([] if kept else [groups])
    assert processors._control_groups(keep_realtime=False)  # then there is nothing to lose


@pytest.mark.parametrize("computing", [True, False])
def test_a_latency_engine_that_is_busy_all_the_time_rests_while_others_compute(
    board_fd: int, computing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    quick, slow = seat(board_fd, 0, "latency"), seat(board_fd, 1, "throughput")
    turn, theirs = quick.turn(shares_cores=True), slow.turn(shares_cores=True)
    assert turn
    assert theirs
    if computing:
        with theirs():
            pass
    now = 0

    def busy_ns() -> int:
        nonlocal now
        now += 1_000_000
        return now

    monkeypatch.setattr("appliance.osutil.rest.time.monotonic_ns", lambda: now)
    monkeypatch.setattr("appliance.osutil.rest.time.process_time_ns", busy_ns)
    monkeypatch.setattr("appliance.osutil.rest.time.sleep", slept.append)
    monkeypatch.setattr("appliance.worker.board.Board.throughput_wanted", lambda _board: computing)
    for _ in range(1000):
        with turn():
            busy_ns()
    assert bool(slept) is computing
