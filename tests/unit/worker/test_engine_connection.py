"""The engine's end of a connection whose other end reads later, or never."""

import socket

from appliance import frames, limits
from appliance.answers import AnyAnswer, GenerateDone, TextPiece
from appliance.worker.engine_connection import EngineConnection, SocketReply


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


def test_a_stream_is_backlogged_until_its_client_has_read() -> None:
    """What the kernel takes is not a backlog; from the bound on the engine is told, and again when there is room."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection = EngineConnection(ours, lambda _connection, _want: None)
        reply = SocketReply(connection, 0)
        sent, kernel = 0, 0
        while not reply.backlogged:
            assert connection.backlog_bytes <= limits.stream_backlogged_bytes
            reply.send(TextPiece("x" * 1000))
            sent += 1
            kernel += connection.backlog_bytes == 0
        assert kernel > 0  # else nothing would be said of what the kernel takes
        assert limits.stream_backlogged_bytes < connection.backlog_bytes <= limits.stream_backlogged_bytes + 1100
        assert not reply.cancelled
        # One more, which was in the making, does no harm; and it is only this stream's matter.
        reply.send(TextPiece("y"))
        theirs.setblocking(False)
        inbox, decoder, got = frames.Inbox(theirs), frames.Decoder[AnyAnswer](AnyAnswer), []
        while len(got) <= sent:
            frame = inbox.next()
            if frame is None:
                connection.flush()
                continue
            got.append(decoder.decode(frame[0]))
        assert not reply.backlogged
        assert connection.backlog_bytes == 0
        assert got == [TextPiece("x" * 1000)] * sent + [TextPiece("y")]


def test_a_stream_that_is_never_read_ends_alone() -> None:
    ours, theirs = socket.socketpair()
    others, reads = socket.socketpair()
    with ours, theirs, others, reads:
        slow = SocketReply(EngineConnection(ours, lambda _connection, _want: None), 0)
        quick = SocketReply(EngineConnection(others, lambda _connection, _want: None), 0)
        while not slow.cancelled:
            slow.send(TextPiece("x" * 10_000))
        assert not quick.backlogged
        assert not quick.cancelled
        quick.send(TextPiece("z"))
        frame = frames.Inbox(reads).next()
        assert frame is not None
        assert frames.Decoder[AnyAnswer](AnyAnswer).decode(frame[0]) == TextPiece("z")
