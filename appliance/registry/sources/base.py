"""What every transport offers: manifests whole, blobs as streams that may start in the middle.

All calls block, and are made by one thread at a time. Nothing that comes out of a source is trusted: whoever calls
checks digests and sizes. Errors are those of failures.py.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol


class Fetched(NamedTuple):
    """A small document. ``digest`` is that of ``data``; ``validator``: what shows later that it is still the same."""

    data: bytes
    digest: str
    media_type: str
    validator: str = ""


class Blob(Protocol):
    """A blob on its way, a context manager. ``offset``: the place of its first byte, which may be 0 whatever was asked.

    ``validator`` goes with a later request for the rest: where the blob has changed since, that one begins at 0.
    """

    offset: int
    validator: str

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes as soon as there are any, b"" behind the last one. Raises Unreachable."""
        ...

    def __enter__(self) -> "Blob": ...

    def __exit__(self, *_: object) -> None: ...


class Source(Protocol):
    """One registry or one layout."""

    @property
    def name(self) -> str:
        """For people: a host, or a folder."""
        ...

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        """The manifest of a tag or digest; None when ``validator`` shows that it is still the same.

        Raises Absent, Refused, Unreachable, or Malformed for one of more than ``bytes_max``.
        """
        ...

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> Blob:
        """The bytes of a blob from ``offset`` on (``length`` of them, None: all); a server may send the whole instead.

        Raises Absent, Refused or Unreachable.
        """
        ...

    def tags(self, repository: str) -> Sequence[str]:
        """All tags, of a repository that does not exist none. Raises Refused or Unreachable."""
        ...


class Target(Protocol):
    """Where a publisher puts artefacts. Raises Refused or Unreachable."""

    name: str

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether it need not be sent."""
        ...

    def put_blob(self, repository: str, digest: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
        """Sends a blob; ``chunks`` is called for each try. There whole, or not at all, when it returns or raises."""
        ...

    def put_manifest(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        """Puts a manifest under a tag, or under its own digest."""
        ...
