"""A box that trusts a simulated publisher, as tests of trust see it."""

from pathlib import Path

from appliance.clock import FakeClock
from appliance.registry.trust.releases import Trust
from tests.support.tuf_repository import PREFIX, TufSource


class Box:
    """``restart`` opens the folder again, as a new process would."""

    def __init__(self, folder: Path, source: TufSource, clock: FakeClock) -> None:
        self.folder, self.source, self.clock = folder, source, clock
        self.restart()

    def restart(self) -> None:
        self.trust = Trust(self.folder, self.source, PREFIX, self.clock)

    def versions(self) -> list[tuple[str, str]]:
        """What a refresh says is released."""
        return sorted((r.line, r.version) for r in self.trust.refresh().releases)

    def last(self) -> list[tuple[str, str]]:
        """What was released when it was last verified."""
        found = self.trust.last()
        return sorted((r.line, r.version) for r in found.releases) if found else []

    @property
    def chain(self) -> Path:
        (found,) = self.folder.glob("chain.*")
        return found

    @property
    def cache(self) -> Path:
        return self.chain / "metadata"
