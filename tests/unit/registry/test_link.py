"""The sync process's end of the control channel."""

import socket
import threading
from collections.abc import Iterator

import pytest

from appliance import control, frames, limits, questions
from appliance.clock import FakeClock
from appliance.registry.link import Link


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        yield ours, theirs


def test_beats_come_when_due_and_not_before(pair: tuple[socket.socket, socket.socket]) -> None:
    clock = FakeClock(monotonic_ns=1)
    link = Link(pair[0], clock)
    beat = b"".join(frames.encode(control.Beat()))
    for _ in range(3):
        link.beat()
    assert pair[1].recv(4096) == beat
    clock.advance(limits.beat_interval_ms / 1000)
    link.beat()
    link.beat()
    assert pair[1].recv(4096) == beat


def test_several_messages_in_one_read_are_all_received(pair: tuple[socket.socket, socket.socket]) -> None:
    messages = [control.Ask(n, questions.AskInspect("x" * n)) for n in range(5)]
    pair[1].sendall(b"".join(b"".join(frames.encode(m)) for m in messages))
    link = Link(pair[0])
    assert [link.receive() for _ in messages] == messages


def test_a_large_answer_waits_for_a_slow_reader(pair: tuple[socket.socket, socket.socket]) -> None:
    answer = control.Told(1, questions.Progress("x" * 5_000_000))
    sender = threading.Thread(target=Link(pair[0]).send, args=(answer,))
    sender.start()
    frame = frames.Inbox(pair[1]).next()
    sender.join(10)
    assert frame is not None
    assert frames.Decoder(control.FromChild).decode(frame[0]) == answer


def test_a_gone_supervisor_ends_receiving_beating_and_sending(pair: tuple[socket.socket, socket.socket]) -> None:
    clock = FakeClock(monotonic_ns=1)
    link = Link(pair[0], clock)
    link.beat()
    pair[1].close()
    clock.advance(1)
    for call in (link.beat, link.receive, lambda: link.send(control.Beat())):
        with pytest.raises(frames.EndOfStream):
            call()


@pytest.mark.parametrize("data", [b"\x07" + b"\0" * 15, frames.PREFIX.pack(1, 3, 0) + b"\xc1\xc1\xc1"])
def test_what_is_no_frame_is_an_error(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    pair[1].sendall(data)
    with pytest.raises(frames.FrameError):
        Link(pair[0]).receive()
