"""A source in memory whose blobs break, stall, lie and change as a script says, request by request."""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.registry.sources.base import Fetched
from appliance.registry.sources.failures import Absent, Unreachable
from appliance.store.manifest import digest_of


class Turn(NamedTuple):
    """How one request for a blob goes. ``cut``: after so many bytes the line breaks. ``whole``: Range is ignored.

    ``shift``: the answer begins so much later than asked. ``instead``: other bytes. ``more``: bytes behind the end.
    """

    cut: int = -1
    whole: bool = False
    shift: int = 0
    instead: bytes | None = None
    more: bytes = b""
    refuse: Exception | None = None


class FlakyBlob:
    def __init__(self, data: bytes, offset: int, cut: int, validator: str) -> None:
        self.offset = offset
        self.validator = validator
        self._data = data
        self._cut = cut

    def read(self, size: int) -> bytes:
        if self._cut == 0:
            raise Unreachable("the line broke")
        piece = self._data[: min(size, self._cut) if self._cut > 0 else size]
        self._data = self._data[len(piece) :]
        self._cut -= len(piece) if self._cut > 0 else 0
        return piece

    def __enter__(self) -> "FlakyBlob":
        return self

    def __exit__(self, *_: object) -> None: ...


class FlakySource:
    """``turns``: of each digest, one for each request; afterwards all goes well. ``asked``: (digest, offset, validator)."""

    name = "flaky"

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {digest_of(blob): blob for blob in blobs}
        self.turns: dict[str, list[Turn]] = {}
        self.validator = "v1"
        self.asked: list[tuple[str, int, str]] = []

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        raise Absent(f"no {reference} in {repository}")

    def tags(self, repository: str) -> Sequence[str]:
        return []

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> FlakyBlob:
        self.asked.append((digest, offset, validator))
        turns = self.turns.get(digest, [])
        turn = turns.pop(0) if turns else Turn()
        if turn.refuse is not None:
            raise turn.refuse
        data = self.blobs[digest] if turn.instead is None else turn.instead
        if turn.whole or (validator and validator != self.validator):
            offset = 0
        offset += turn.shift
        return FlakyBlob(data[offset:] + turn.more, offset, turn.cut, self.validator)
