"""The engine's end of a connection whose other end reads later, or never."""

import socket

from appliance import frames, limits
from appliance.calls import AnyAnswer, GenerateDone, TextPiece
from appliance.worker.engine_connection import EngineConnection


def test_more_answers_than_one_sendmsg_takes_wait_and_all_arrive() -> None:
    """Small pieces fill the list of what waits long before its bytes are too many."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wanted: list[bool] = []
        connection = EngineConnection(ours, lambda _connection, want: wanted.append(want))
        sent = 0
        while sent < 2 * limits.send_pieces_max or not connection.backlog_bytes:
            connection.write(TextPiece("x"))
            sent += 1
        for _ in range(2 * limits.send_pieces_max):
            connection.write(TextPiece("x"))
        connection.write(GenerateDone())
        inbox, decoder, got = frames.Inbox(theirs), frames.Decoder[AnyAnswer](AnyAnswer), 0
        theirs.setblocking(False)
        while True:
            frame = inbox.next()
            if frame is None:
                connection.flush()
                assert not connection.closed
                continue
            if decoder.decode(frame[0]).final:
                break
            got += 1
        assert got == sent + 2 * limits.send_pieces_max
        assert wanted == [True, False]


def test_a_frame_of_more_buffers_than_one_sendmsg_takes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        count = 2 * limits.send_pieces_max + 1
        frames.send(ours, GenerateDone(), [b"x"] * count)
        frame = frames.Inbox(theirs).next()
        assert frame is not None
        assert bytes(frame[1]) == b"x" * count
