"""The bytes that only the source has, read in rising order out of ranged requests, or out of the whole blob where it comes."""

import contextlib
from collections.abc import Callable, Sequence

from appliance import limits
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Entry
from appliance.registry.delta.planner import Range
from appliance.registry.sources.base import Blob, Source
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable

_READ_BYTES = 256 * 1024


class RangeReader:
    """``fetched`` counts bytes that came, needed or not. ``pace`` is called with them, ``beat`` before each read."""

    def __init__(
        self,
        source: Source,
        repository: str,
        wanted: Entry,
        ranges: Sequence[Range],
        pace: Callable[[int], None],
        beat: Callable[[], None],
    ) -> None:
        self._source = source
        self._repository = repository
        self._wanted = wanted
        self._ranges = list(reversed(ranges))
        self._pace = pace
        self._beat = beat
        self._open = contextlib.ExitStack()
        self._stream: Blob | None = None
        self._whole = False  # the open request sends everything from the start, and with it what is needed next
        self._at = 0
        self.fetched = 0
        self.requests = 0

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes inside one range; the offsets of calls rise. What breaks off is asked for again.

        Raises Unreachable when nothing came several times in a row, DeltaFailed SOURCE for any other failure of it.
        """
        buffer = bytearray()
        idle = 0
        while len(buffer) < length:
            before = len(buffer)
            try:
                self._more(buffer, offset + before, length - before)
            except Unreachable:
                self.close()
                idle = 0 if len(buffer) > before else idle + 1
                if idle >= limits.pull_idle_tries_max:
                    raise
            except (Absent, Refused, Malformed) as error:
                raise DeltaFailed("SOURCE", error.message) from error
        if not self._whole and self._at >= self._ranges[-1].end:
            self.close()
        return bytes(buffer)

    def close(self) -> None:
        """Ends the request that is open."""
        self._stream = None
        self._open.close()

    def _more(self, buffer: bytearray, offset: int, length: int) -> None:
        stream = self._stream or self._request(offset)
        while self._at < offset:
            self._take(stream, min(_READ_BYTES, offset - self._at))
        while length > 0:
            piece = self._take(stream, min(_READ_BYTES, length))
            buffer += piece
            length -= len(piece)

    def _request(self, offset: int) -> Blob:
        """A stream that is at ``offset``, or before it when the source ignores ranges."""
        while self._ranges[-1].end <= offset:
            self._ranges.pop()
        self.requests += 1
        if self.requests > 2 * limits.delta_ranges_max:
            raise DeltaFailed("SOURCE", f"{self._source.name} breaks off again and again")
        length = self._ranges[-1].end - offset
        stream = self._open.enter_context(
            self._source.blob(self._repository, self._wanted.digest, offset=offset, length=length)
        )
        if stream.offset not in (0, offset):
            raise DeltaFailed("SOURCE", f"{self._source.name} sends bytes from {stream.offset}, not from {offset} on")
        self._whole = stream.offset != offset
        self._at = stream.offset
        self._stream = stream
        return stream

    def _take(self, stream: Blob, size: int) -> bytes:
        self._beat()
        piece = stream.read(size)
        if not piece:
            raise Unreachable(f"{self._source.name} stopped in the middle of {self._wanted.digest}")
        self._at += len(piece)
        self.fetched += len(piece)
        if self.fetched > 2 * self._wanted.size:
            raise DeltaFailed("SOURCE", f"{self._source.name} has sent twice the blob, and what is needed did not come")
        self._pace(len(piece))
        return piece
