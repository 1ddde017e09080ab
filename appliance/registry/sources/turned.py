"""A source that is another one for a while: the registry, and a stick while that is imported."""

from collections.abc import Sequence

from appliance.registry.sources.base import Blob, Fetched, Source


class Turned:
    """Asks ``usual``, or what it has been turned to. Turned only while nobody asks."""

    def __init__(self, usual: Source) -> None:
        self._usual = usual
        self._now = usual

    def turn_to(self, source: Source | None) -> None:
        """None: back to the usual one."""
        self._now = source or self._usual

    @property
    def is_turned(self) -> bool:
        """Whether another one than the usual one is asked."""
        return self._now is not self._usual

    @property
    def name(self) -> str:
        """As base.Source, of the one that is asked now."""
        return self._now.name

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        """As base.Source."""
        return self._now.manifest(repository, reference, bytes_max=bytes_max, validator=validator)

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> Blob:
        """As base.Source."""
        return self._now.blob(repository, digest, offset=offset, length=length, validator=validator)

    def tags(self, repository: str) -> Sequence[str]:
        """As base.Source."""
        return self._now.tags(repository)
