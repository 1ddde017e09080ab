"""A registry in memory: a Source and a Target of appliance/registry/sources/base.py, which fails where it is told to."""

from collections.abc import Callable, Iterable, Sequence

from appliance.registry.sources.base import Fetched
from appliance.registry.sources.failures import Absent, Unreachable
from appliance.store.manifest import digest_of


class MemoryBlob:
    def __init__(self, data: bytes, offset: int) -> None:
        self.offset = offset
        self.validator = ""
        self._data = data[offset:]

    def read(self, size: int) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    def __enter__(self) -> "MemoryBlob":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class MemoryRegistry:
    """``fail_at``: the number of the writing call, from 1 on, from which on all fail. ``puts``: tags in their order."""

    name = "memory"

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.puts: list[str] = []
        self.writes = 0
        self.fail_at = 0

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        try:
            data = self.manifests[repository, reference]
        except KeyError:
            raise Absent(f"no {reference} in {repository}") from None
        assert len(data) <= bytes_max
        return Fetched(data, digest_of(data), "", validator)

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> MemoryBlob:
        try:
            return MemoryBlob(self.blobs[repository, digest], offset)
        except KeyError:
            raise Absent(f"no {digest} in {repository}") from None

    def tags(self, repository: str) -> Sequence[str]:
        return [tag for place, tag in self.manifests if place == repository and ":" not in tag]

    def has_blob(self, repository: str, digest: str) -> bool:
        return (repository, digest) in self.blobs

    def put_blob(self, repository: str, digest: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
        self._write()
        data = b"".join(chunks())
        assert (len(data), digest_of(data)) == (size, digest)
        self.blobs[repository, digest] = data

    def put_manifest(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        self._write()
        self.puts.append(reference)
        self.manifests[repository, reference] = data
        self.manifests[repository, digest_of(data)] = data

    def _write(self) -> None:
        self.writes += 1
        if self.fail_at and self.writes >= self.fail_at:
            raise Unreachable("the registry went away")
