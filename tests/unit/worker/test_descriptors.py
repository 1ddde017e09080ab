import array
import os
import socket
from collections.abc import Iterator

import pytest

from appliance import frames
from appliance.calls import AnyCall, InferCall, ShareCall, StatsCall
from appliance.tensor_heads import TensorHead
from appliance.worker.descriptors import DescriptorInbox, send_with

Pair = tuple[socket.socket, socket.socket]
CALLS: "frames.Decoder[AnyCall]" = frames.Decoder(AnyCall)


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def next_call(inbox: DescriptorInbox) -> AnyCall:
    frame = inbox.next()
    assert frame is not None
    return CALLS.decode(frame[0])


def file(content: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, content)
    return fd


def test_each_frame_has_its_descriptor(pair: Pair) -> None:
    ours, theirs = pair
    for number in range(5):
        fd = file(b"%d" % number)
        send_with(ours, ShareCall(region=number), fd)
        os.close(fd)
        frames.send(ours, StatsCall())
    inbox = DescriptorInbox(theirs)
    for number in range(5):
        assert next_call(inbox) == ShareCall(region=number)
        fd = inbox.descriptor()
        assert os.pread(fd, 9, 0) == b"%d" % number
        assert not os.get_inheritable(fd)
        os.close(fd)
        assert next_call(inbox) == StatsCall()


def test_a_large_frame_behind_a_descriptor(pair: Pair) -> None:
    ours, theirs = pair
    send_with(ours, ShareCall(), 0)
    call = InferCall(tensors=(TensorHead("x", "UINT8", (100_000,), 100_000),))
    frames.send(ours, call, [bytes(100_000)])
    inbox = DescriptorInbox(theirs)
    assert next_call(inbox) == ShareCall()
    os.close(inbox.descriptor())
    assert next_call(inbox) == call


def test_a_frame_without_its_descriptor(pair: Pair) -> None:
    ours, theirs = pair
    frames.send(ours, ShareCall())
    inbox = DescriptorInbox(theirs)
    next_call(inbox)
    with pytest.raises(frames.FrameError, match="without one"):
        inbox.descriptor()


def test_more_descriptors_than_one_are_closed_and_an_error(pair: Pair) -> None:
    ours, theirs = pair
    before = open_fds()
    piece = frames.encode(ShareCall())[0]
    ours.sendmsg([piece], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 20))])
    inbox = DescriptorInbox(theirs)
    with pytest.raises(frames.FrameError, match="more descriptors"):
        inbox.next()
    inbox.close()
    assert open_fds() == before


def test_what_nobody_asked_for_is_closed(pair: Pair) -> None:
    ours, theirs = pair
    before = open_fds()
    send_with(ours, StatsCall(), 0)
    inbox = DescriptorInbox(theirs)
    next_call(inbox)
    assert open_fds() == before + 1
    inbox.close()
    assert open_fds() == before


def test_an_inbox_without_goes_on_where_the_other_was(pair: Pair) -> None:
    ours, theirs = pair
    whole = b"".join(frames.encode(InferCall(tensors=(TensorHead("x", "UINT8", (3,), 3),)), [b"abc"]))
    frames.send(ours, StatsCall())
    ours.sendall(whole[:10])
    inbox = DescriptorInbox(theirs)
    assert next_call(inbox) == StatsCall()
    plain = inbox.without()
    ours.sendall(whole[10:])
    frame = plain.next()
    assert frame is not None
    assert bytes(frame[1]) == b"abc"


def test_the_end_of_the_stream(pair: Pair) -> None:
    ours, theirs = pair
    ours.close()
    with pytest.raises(frames.EndOfStream):
        DescriptorInbox(theirs).next()
