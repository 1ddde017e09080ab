"""A blob on its way over HTTP."""

import urllib3

from appliance import limits
from appliance.registry.http.connections import failure_of
from appliance.registry.http.session import Session
from appliance.registry.sources.failures import Malformed, Unreachable


class HttpBlob:
    """As base.Blob. ``length``: how many bytes there must be, None where only the sender knows."""

    def __init__(
        self, session: Session, response: urllib3.BaseHTTPResponse, offset: int, length: int | None, validator: str
    ) -> None:
        self.offset = offset
        self.validator = validator
        self._session = session
        self._response = response
        self._left = length
        self._any = False
        # Nanoseconds spent waiting, and what came in them: the reader's own pauses don't count.
        self._waited_ns = 0
        self._since = 0

    def read(self, size: int) -> bytes:
        """As base.Blob. Raises Unreachable, also for a trickle, and Malformed for more than was announced."""
        if size <= 0:
            return b""
        began_ns = self._session.clock.monotonic_ns()
        try:
            piece = self._response.read1(min(size, limits.http_read_bytes), decode_content=False)
            self._check_progress(len(piece), self._session.clock.monotonic_ns() - began_ns)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._broke()
            raise failure_of(error, self._session.origin) from None
        if self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise Malformed(f"{self._session.name} sends more of a blob than its Content-Range says")
            if not piece and self._left:
                self._broke()
                raise Unreachable(f"{self._session.name} broke off {self._left} bytes before the end")
        if piece and not self._any:
            self._any = True
            self._session.stream_flows()
        return piece

    def _check_progress(self, count: int, waited_ns: int) -> None:
        self._waited_ns += waited_ns
        self._since += count
        if self._waited_ns < self._session.stall_s * 1e9:
            return
        if count and self._since < limits.http_progress_bytes_min:
            self._broke()
            raise Unreachable(f"{self._session.name} sent {self._since} bytes in {self._waited_ns / 1e9:.0f} s")
        self._waited_ns = self._since = 0

    def _broke(self) -> None:
        self._response.close()
        self._session.stream_broke(any_bytes=self._any)

    def __enter__(self) -> "HttpBlob":
        return self

    def __exit__(self, *_: object) -> None:
        # Not drained: what is left of a blob may be gigabytes.
        self._response.close()
        self._response.release_conn()
