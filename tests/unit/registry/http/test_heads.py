"""Answers whose head, chunk sizes or trailer have no end, or come byte by byte: refused in time, whatever http.client does."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from appliance.registry.http.options import HttpOptions, Means
from appliance.registry.http.source import HttpSource
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.store.manifest import digest_of

STALL_S = 0.2
DIGEST = digest_of(b"anything")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def forever(start: bytes, again: bytes) -> Iterable[bytes]:
    return itertools.chain([start], itertools.repeat(again))


@contextlib.contextmanager
def server(answer: Callable[[], Iterable[bytes]], pause_s: float = 0.0) -> Iterator[str]:
    """Sends the pieces of ``answer`` to whoever comes, ``pause_s`` apart; its URL."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            for piece in answer():
                connection.sendall(piece)
                if over.wait(pause_s) if pause_s else over.is_set():
                    return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


def fetch(url: str) -> bytes:
    options = HttpOptions(url=url, stall_s=STALL_S, connect_s=2)
    with HttpSource(options, Means(sleep=lambda _: None)).blob("a/b", DIGEST) as blob:
        return b"".join(iter(lambda: blob.read(1000), b""))


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (OK, b"A: " + b"b" * 60_000 + b"\r\n"),
        (OK, b"A: b\r\n"),
        (OK + b"A: ", b"b" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"HTTP/1.1 100 Continue\r\n", b"A: b\r\n" * 100),
        (b"", b"HTTP/1.1 200 " + b"b" * 1000),
        (CHUNKED + b"1;", b"b" * 1000),
        (CHUNKED + b"0\r\n", b"A: b\r\n" * 100),
    ],
    ids=[
        "giant headers",
        "many headers",
        "one long header",
        "continue",
        "after continue",
        "status",
        "chunk",
        "trailer",
    ],
)
def test_what_has_no_end_is_refused(start: bytes, again: bytes) -> None:
    with server(lambda: forever(start, again)) as url, pytest.raises(Malformed):
        fetch(url)


@pytest.mark.parametrize(
    "start",
    [OK + b"A: ", b"HTTP/1.1 200 ", CHUNKED + b"1;", CHUNKED + b"0\r\nA: "],
    ids=["head", "status", "chunk", "trailer"],
)
def test_what_comes_byte_by_byte_is_a_stall(start: bytes) -> None:
    """Each byte is in time; the head as a whole is not."""
    with server(lambda: forever(start, b"b"), pause_s=STALL_S / 10) as url, pytest.raises(Unreachable):
        fetch(url)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\nA: b\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
        CHUNKED + b"2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
        OK + b"A: " + b"b" * 30_000 + b"\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"\r\nhello",
    ],
    ids=["continue", "chunks", "long header", "no length"],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_right_answers_are_read_in_whatever_pieces_they_come(answer: bytes, size: int) -> None:
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    with server(lambda: pieces) as url:
        assert fetch(url) == b"hello"


@pytest.mark.parametrize(
    "answer", [b"", b"\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/9 200 OK\r\n\r\n", OK[:9]]
)
def test_what_is_no_http_is_a_failure_with_a_type(answer: bytes) -> None:
    with server(lambda: [answer]) as url, pytest.raises((Malformed, Unreachable)) as caught:
        fetch(url)
    assert "Pool" not in caught.value.message


def test_an_answer_without_a_body_needs_no_more_than_its_head() -> None:
    with server(lambda: [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]) as url, pytest.raises(Absent):
        fetch(url)
