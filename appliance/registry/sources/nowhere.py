"""The source of a machine without a network: nothing comes from there; releases come on sticks."""
# ruff: noqa: ARG002  # whatever is asked

from collections.abc import Sequence

from appliance.registry.sources.base import Blob, Fetched
from appliance.registry.sources.failures import Unreachable


class Nowhere:
    """Raises Unreachable for whatever it is asked."""

    name = "offline:"

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        """As base.Source."""
        raise self._unreachable()

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> Blob:
        """As base.Source."""
        raise self._unreachable()

    def tags(self, repository: str) -> Sequence[str]:
        """As base.Source."""
        raise self._unreachable()

    @staticmethod
    def _unreachable() -> Unreachable:
        return Unreachable("registry.url is offline: nothing can be fetched; appliance bundle import brings releases")
