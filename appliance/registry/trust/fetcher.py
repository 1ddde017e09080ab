"""TUF's files out of a registry: what python-tuf's client fetches by URL is fetched here by tag (see carried.py).

A poll that finds nothing new is two requests: the next root, which isn't there, and the timestamp, which is not modified.
Every other file has its version in its name and is in the client's cache.
"""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient.fetcher import FetcherInterface

from appliance import limits
from appliance.clock import Clock
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.registry.trust import carried
from appliance.store.manifest import Descriptor, digest_of

# The scheme means nothing to anybody else: the client only puts a file's name behind it.
BASE_URL = "tuf:/"
TIMESTAMP = "timestamp.json"


class File(NamedTuple):
    """A file as it came, unverified."""

    name: str
    data: bytes


class RegistryFetcher(FetcherInterface):
    """Fetches from the repository ``prefix``/tuf. Kept from poll to poll: it remembers the timestamp.

    Raises what the source raises (Unreachable, Refused, Malformed); a file that isn't there is DownloadHTTPError 404.
    ``asked`` is the last file that was asked for since ``begin``, ``recent`` the last one that came.
    """

    def __init__(self, source: Source, prefix: str, clock: Clock) -> None:
        self._source = source
        self._repository = carried.repository_of(prefix)
        self._clock = clock
        self._timestamp = b""
        self._validator = ""
        self.recent: File | None = None
        self.asked = ""

    @property
    def source_name(self) -> str:
        """Who is asked, for people."""
        return self._source.name

    def begin(self) -> None:
        """Before a refresh."""
        self.recent = None
        self.asked = ""

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The file's bytes; the base class would spool them to a temporary file."""
        self.asked = name = unquote(url.removeprefix(BASE_URL))
        if not carried.is_file_name(name):
            raise Malformed(f"the metadata name a role whose file {name[:100]!r} no registry could hold")
        try:
            data = self._fetch_file(name, max_length)
        except Absent:
            raise DownloadHTTPError(f"{self._source.name} has no {name}", 404) from None
        if len(data) > max_length:
            raise DownloadLengthMismatchError(f"{name} has {len(data)} bytes, at most {max_length} are allowed")
        self.recent = File(name, data)
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        """What the base class wants of every fetcher; models are never fetched with it."""
        return iter((self.download_bytes(url, limits.tuf_file_bytes_max),))

    def _fetch_file(self, name: str, max_length: int) -> bytes:
        validator = self._validator if name == TIMESTAMP else ""
        fetched = self._source.manifest(
            self._repository, name, bytes_max=limits.tuf_manifest_bytes_max, validator=validator
        )
        if fetched is None:
            if not validator:
                raise Malformed(f"{self._source.name} says that {name} is not modified, which nobody asked")
            return self._timestamp
        found = carried.decode(fetched.data)
        data = found if isinstance(found, bytes) else self._blob(name, found, max_length)
        if name == TIMESTAMP and len(data) <= max_length:
            self._timestamp, self._validator = data, fetched.validator
        return data

    def _blob(self, name: str, descriptor: Descriptor, max_length: int) -> bytes:
        if descriptor.size > max_length:
            raise DownloadLengthMismatchError(f"{name} has {descriptor.size} bytes, at most {max_length} are allowed")
        until_ns = self._clock.monotonic_ns() + limits.tuf_fetch_s_max * 1_000_000_000
        pieces = []
        left = descriptor.size
        with self._source.blob(self._repository, descriptor.digest) as blob:
            while left > 0 and (piece := blob.read(left)):
                pieces.append(piece)
                left -= len(piece)
                if self._clock.monotonic_ns() > until_ns:
                    raise Unreachable(f"{self._source.name} is too slow: {name} took {limits.tuf_fetch_s_max} s")
        data = b"".join(pieces)
        if digest_of(data) != descriptor.digest:
            raise Malformed(f"{name} from {self._source.name} is not what its digest says")
        return data
