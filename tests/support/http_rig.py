"""A client and a simulated registry for tests of registry/http: pauses are written down, not waited for."""

import json
from pathlib import Path

from registry_simulator import RegistrySimulator

from appliance.clock import FakeClock
from appliance.registry.http.options import HttpOptions, Means
from appliance.registry.http.source import HttpSource
from appliance.registry.http.target import HttpTarget
from appliance.registry.sources.base import Source

PLACE = "acme/models/llm"


class Rig:
    """``chance`` is always 1: each pause is as long as it may be."""

    def __init__(self, registry: RegistrySimulator, **options: object) -> None:
        self.registry = registry
        self.clock = FakeClock()
        self.pauses: list[float] = []
        means = Means(self.clock, lambda: 1.0, self.pauses.append)
        known: dict[str, object] = {"url": registry.url, "connect_s": 5.0, "stall_s": 5.0, **options}
        self.options = HttpOptions(**known)  # type: ignore[arg-type]
        self.source = HttpSource(self.options, means)
        self.target = HttpTarget(self.options, means)


def read_all(source: Source, digest: str, **asked: object) -> tuple[int, bytes]:
    """(offset, bytes) of a blob."""
    with source.blob(PLACE, digest, **asked) as blob:  # type: ignore[arg-type]
        pieces = []
        while piece := blob.read(1 << 20):
            pieces.append(piece)
    return blob.offset, b"".join(pieces)


def credentials_file(folder: Path, *entries: tuple[str, str]) -> str:
    """A file of (host, auth) that only its owner may read."""
    path = folder / "credentials.json"
    path.write_text(json.dumps({"auths": {host: {"auth": auth} for host, auth in entries}}))
    path.chmod(0o600)
    return str(path)
