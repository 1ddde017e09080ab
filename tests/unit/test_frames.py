import socket
import struct
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import frames, limits
from appliance.calls import AnyCall, GenerateCall, InferCall
from appliance.control import Ask, ToChild
from appliance.questions import AskStatus
from appliance.tensor_heads import TensorHead, split_body

CALLS: "frames.Decoder[AnyCall]" = frames.Decoder(AnyCall)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def call(*sizes: int) -> InferCall:
    return InferCall(tensors=tuple(TensorHead(f"t{i}", "UINT8", (n,), n) for i, n in enumerate(sizes)))


def test_small_frames_come_many_to_a_read(pair) -> None:
    ours, theirs = pair
    for i in range(5):
        frames.send(ours, call(i), [b"x" * i])
    inbox = frames.Inbox(theirs)
    for i in range(5):
        header, body = inbox.next()
        assert CALLS.decode(header) == call(i)
        assert bytes(body) == b"x" * i


@given(st.lists(st.binary(max_size=200_000), max_size=4), st.integers(1, 100_000))
def test_any_body_in_any_slices(buffers: list[bytes], slice_bytes: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        whole = b"".join(bytes(p) for p in frames.encode(call(*map(len, buffers)), buffers))

        def trickle() -> None:
            for start in range(0, len(whole), slice_bytes):
                ours.sendall(whole[start : start + slice_bytes])

        sender = threading.Thread(target=trickle)
        sender.start()
        header, body = frames.Inbox(theirs).next()
        sender.join()
        heads = CALLS.decode(header).tensors
        assert [bytes(t.data) for t in split_body(heads, body)] == buffers


def test_a_non_blocking_socket_says_when_there_is_no_more(pair) -> None:
    ours, theirs = pair
    theirs.setblocking(False)
    inbox = frames.Inbox(theirs)
    assert inbox.next() is None
    whole = b"".join(frames.encode(call(3), [b"abc"]))
    ours.sendall(whole[:10])
    assert inbox.next() is None
    ours.sendall(whole[10:])
    assert inbox.next() is not None


@pytest.mark.parametrize("sent", [0, 1, frames.PREFIX.size, frames.PREFIX.size + 3])
def test_end_of_stream(pair, sent: int) -> None:
    ours, theirs = pair
    ours.sendall(b"".join(frames.encode(call(100_000), [bytes(100_000)]))[:sent])
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(frames.EndOfStream) as caught:
        frames.Inbox(theirs).next()
    assert caught.value.partial == bool(sent)


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        (struct.pack("<B3xIQ", 2, 1, 0), "version 2"),
        (struct.pack("<B3xIQ", 1, limits.frame_header_bytes_max + 1, 0), "over the bounds"),
        (struct.pack("<B3xIQ", 1, 1, limits.frame_body_bytes_max + 1), "over the bounds"),
    ],
)
def test_a_foreign_prefix_is_refused(pair, prefix: bytes, complaint: str) -> None:
    ours, theirs = pair
    ours.sendall(prefix)
    with pytest.raises(frames.FrameError, match=complaint):
        frames.Inbox(theirs).next()


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x93\xa5", msgspec.msgpack.encode(["nonsense"]), b"\x90"])
def test_a_foreign_header_is_refused(header: bytes) -> None:
    with pytest.raises(frames.FrameError):
        CALLS.decode(header)


@pytest.mark.parametrize("sizes", [(4, 4), (4, 5, 1), ()])
def test_heads_must_claim_what_is_there(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the frame carries 9"):
        split_body(call(*sizes).tensors, memoryview(bytes(9)))


def test_messages_survive_the_way(pair) -> None:
    ours, theirs = pair
    inbox = frames.Inbox(theirs)
    frames.send(ours, GenerateCall(prompt="größer", stop=("\n",)))
    assert CALLS.decode(inbox.next()[0]) == GenerateCall(prompt="größer", stop=("\n",))
    frames.send(ours, Ask(7, AskStatus()))
    assert frames.Decoder(ToChild).decode(inbox.next()[0]) == Ask(7, AskStatus())
