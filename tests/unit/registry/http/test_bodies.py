"""Bodies come in larger pieces than the network has them, never later than they must, and a failure loses none of them."""

import http.client
import io
import ssl
from collections.abc import Sequence

import pytest

from appliance.registry.http import heads
from appliance.registry.http.heads import BoundedResponse

STEP_S = heads._GATHER_SECONDS * 0.4


class Line(io.RawIOBase):
    """A socket on which one piece after another comes, or an error in its place. Each takes ``STEP_S``."""

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self.pieces = list(pieces)
        self.now_s = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        self.now_s += STEP_S
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        if len(piece) > len(into):
            self.pieces.insert(0, piece[len(into) :])
        count = min(len(piece), len(into))
        into[:count] = piece[:count]
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def gettimeout(self) -> float:
        return 60.0


def answer(monkeypatch: pytest.MonkeyPatch, *body: bytes | Exception, head: bytes = b"") -> BoundedResponse:
    line = Line([b"HTTP/1.1 200 OK\r\n" + head + b"\r\n", *body])
    monkeypatch.setattr(heads.time, "monotonic", lambda: line.now_s)
    response = BoundedResponse(line)  # type: ignore[arg-type]
    response.begin()
    return response


def test_what_comes_together_is_one_piece_and_no_longer_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [bytes([number]) * 16_384 for number in range(8)]
    response = answer(monkeypatch, *records)
    # The first one, and what came within a tenth of a second behind it.
    assert response.read1(1_000_000) == b"".join(records[:4])
    assert response.read1(1_000_000) == b"".join(records[4:])
    assert response.read1(1_000_000) == b""


@pytest.mark.parametrize("size", [1, 100, 16_384, 16_385])
def test_never_more_than_was_asked_for(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    records = [bytes([number]) * 16_384 for number in range(3)]
    response = answer(monkeypatch, *records)
    pieces = list(iter(lambda: response.read1(size), b""))
    assert max(map(len, pieces)) == size
    assert b"".join(pieces) == b"".join(records)


@pytest.mark.parametrize(
    "error", [ConnectionResetError("reset"), TimeoutError("timed out"), ssl.SSLError("bad record mac")]
)
def test_what_came_before_the_line_broke_is_not_lost(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    response = answer(monkeypatch, b"a" * 100, b"b" * 100, error, b"c" * 100)
    assert response.read1(1_000_000) == b"a" * 100 + b"b" * 100
    for _ in range(2):
        with pytest.raises(type(error)):
            response.read1(1_000_000)


def test_pieces_that_were_handed_out_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    response = answer(monkeypatch, *(bytes([n]) * 1000 for n in range(9)))
    pieces = list(iter(lambda: response.read1(3000), b""))
    assert b"".join(pieces) == b"".join(bytes([n]) * 1000 for n in range(9))


def test_the_end_of_a_length_or_of_a_chunk_is_not_read_across(monkeypatch: pytest.MonkeyPatch) -> None:
    response = answer(monkeypatch, b"hello", b"HTTP/1.1 200 OK\r\n", head=b"Content-Length: 5\r\n")
    assert response.read1(1000) == b"hello"
    chunked = answer(monkeypatch, b"2\r\nhe\r\n3\r\n", b"llo\r\n0\r\n\r\n", head=b"Transfer-Encoding: chunked\r\n")
    assert b"".join(iter(lambda: chunked.read1(1000), b"")) == b"hello"
    assert isinstance(chunked, http.client.HTTPResponse)
