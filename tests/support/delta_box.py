"""A box with local blobs, and a source whose ranged requests break, lie and ignore their range as a script says."""

import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.registry.delta import chunking, index, rebuild
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Entry
from appliance.registry.delta.seeds import Seed, Seeds
from appliance.registry.sources.base import Fetched
from appliance.registry.sources.failures import Absent, Unreachable
from appliance.store.manifest import digest_of

MIB = 1024 * 1024


def noise(seed: int, size: int) -> bytes:
    """Weights, as far as chunks are concerned: always the same."""
    return random.Random(seed).randbytes(size)


def gguf_like(name: bytes, weights: bytes) -> bytes:
    """A header with metadata, then the weights aligned to 32 bytes."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 200, 20) + struct.pack("<Q", len(name)) + name + noise(7, 20_000)
    return head + bytes(-len(head) % 32) + weights


def entry_of(data: bytes, bits: int | None = None) -> Entry:
    """What a publisher writes about a blob."""
    bits = chunking.average_bits(len(data)) if bits is None else bits
    return index.entry(bytes.fromhex(digest_of(data)[7:]), len(data), bits, list(chunking.cut(_Stream(data), bits)))


class _Stream:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int, /) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece


class Turn(NamedTuple):
    """How one request goes. ``cut``: the line breaks after so many bytes; ``end``: it ends there as if that were all.

    ``whole``: Range is ignored. ``shift``: the answer begins so much later. ``instead``: the whole of other bytes.
    ``fat``: each read gives so many bytes more than it was asked for. ``refuse``: raised for the request.
    """

    cut: int = -1
    end: int = -1
    whole: bool = False
    shift: int = 0
    instead: bytes | None = None
    fat: int = 0
    refuse: Exception | None = None


class _Blob:
    validator = ""

    def __init__(self, source: "RangedSource", data: memoryview, offset: int, turn: Turn) -> None:
        self.offset = offset
        self._source, self._data, self._turn, self._sent = source, data, turn, 0

    def read(self, size: int) -> bytes:
        if self._turn.cut >= 0:
            size = min(size, self._turn.cut - self._sent)
            if size <= 0:
                raise Unreachable("the line broke")
        if self._turn.end >= 0:
            size = min(size, self._turn.end - self._sent)
        piece = bytes(self._data[self._sent : self._sent + size + self._turn.fat])
        self._sent += len(piece)
        self._source.sent += len(piece)
        return piece

    def __enter__(self) -> "_Blob":
        return self

    def __exit__(self, *_: object) -> None:
        self._source.open -= 1


class RangedSource:
    """``turns``: one for each request, then ``otherwise``. ``asked``: (offset, length); ``sent``: bytes of all answers."""

    name = "ranged"

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {digest_of(blob): blob for blob in blobs}
        self.turns: list[Turn] = []
        self.otherwise = Turn()
        self.asked: list[tuple[int, int | None]] = []
        self.sent = 0
        self.open = 0

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        raise Absent(f"no {reference} in {repository}")

    def tags(self, repository: str) -> Sequence[str]:
        return []

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> _Blob:
        self.asked.append((offset, length))
        turn = self.turns.pop(0) if self.turns else self.otherwise
        if turn.refuse is not None:
            raise turn.refuse
        if digest not in self.blobs:
            raise Absent(f"no {digest} in {repository}")
        data = memoryview(self.blobs[digest] if turn.instead is None else turn.instead)
        end = len(data) if turn.whole or turn.fat or length is None else offset + length
        offset = (0 if turn.whole else offset) + turn.shift
        self.open += 1
        return _Blob(self, data[offset:end], offset, turn)


class Box:
    """Wants ``new`` and has ``olds``."""

    def __init__(self, folder: Path, new: bytes, *olds: bytes) -> None:
        self.folder = folder
        self.new = new
        self.entry = entry_of(new)
        self.source = RangedSource(new)
        self.target = folder / "partial" / f"{self.entry.sha256.hex()}.partial"
        self.seeds_made = [self.put(old) for old in olds]
        self.came = 0
        self.stop_after = -1

    def put(self, data: bytes) -> Seed:
        """A local blob."""
        hexadecimal = digest_of(data)[7:]
        path = self.folder / "blobs" / hexadecimal
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return Seed(hexadecimal, path, len(data))

    @property
    def seeds(self) -> Seeds:
        return Seeds(self.folder / "cache", self.seeds_made)

    def run(self) -> rebuild.Saved:
        self.came = 0
        return rebuild.rebuild(
            self.source, "r", self.entry, self.seeds, self.target, progress=self._came, cancelled=self._cancelled
        )

    def outcome(self) -> str:
        """Why it is given up; empty when it was not."""
        try:
            self.run()
        except DeltaFailed as error:
            return error.reason
        return ""

    @property
    def left(self) -> bytes:
        """The partial file."""
        return self.target.read_bytes()

    def holds(self) -> bool:
        return self.left == self.new and self.source.open == 0

    def holds_a_beginning(self) -> bool:
        """What a whole download may go on behind."""
        return self.new.startswith(self.left) and self.source.open == 0

    def _came(self, count: int) -> None:
        self.came += count

    def _cancelled(self) -> bool:
        return 0 <= self.stop_after <= self.came
