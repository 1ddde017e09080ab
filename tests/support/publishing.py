"""A publisher with quick keys and a registry in memory, and a client as python-tuf has it, to judge what was signed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import model_folders
from memory_registry import MemoryRegistry
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from appliance.clock import FakeClock
from appliance.publish.release import operations, pack, upload
from appliance.publish.release.operations import Terms
from appliance.publish.release.publisher import Publisher
from appliance.publish.release.settings import Settings, Thresholds
from appliance.publish.release.signers import FileSigners
from appliance.publish.release.upload import Registry
from appliance.publish.release.workspace import Workspace

PASSPHRASE = b"correct horse battery"
SETTINGS = Settings(prefix="acme")
TUF = SETTINGS.tuf_repository


def registry(memory: MemoryRegistry) -> Registry:
    return Registry("memory", memory, memory)


class Desk:
    """One person's folder. ``layout`` and ``remote`` may be shared with others."""

    def __init__(self, folder: Path, remote: MemoryRegistry | None = None, **settings: Any) -> None:
        self.folder = folder
        self.remote = remote or MemoryRegistry()
        self.layout = MemoryRegistry()
        self.clock = FakeClock(wall_ns=time.time_ns())
        Workspace.create(folder, Settings(**{"prefix": "acme", **settings}))
        self.open()

    def open(self) -> "Desk":
        """Again, as the next process does."""
        if hasattr(self, "workspace"):
            self.workspace.close()
        self.workspace = Workspace(self.folder)
        signers = FileSigners(self.workspace.keys, lambda _name, _new: PASSPHRASE)
        self.publisher = Publisher(self.workspace, signers, self.clock)
        return self

    def pack(self, folder: Path, version: str = "1.0.0", line: str = "press", **files: bytes) -> pack.Plan:
        plan = pack.plan(model_folders.make(folder, model_folders.onnx_toml(version, line), **files))
        pack.put(plan, registry(self.layout), self.publisher.settings.model_repository(line))
        return plan

    def release(self, version: str = "1.0.0", line: str = "press", **terms: Any) -> operations.Outcome:
        return operations.release(self.publisher, registry(self.layout), line, version, Terms(**terms))

    def publish(self) -> list[str]:
        return operations.publish(self.publisher, registry(self.layout), registry(self.remote))

    def fetch(self, root: bytes | None = None) -> bool:
        return operations.take_over(self.publisher, registry(self.remote), root)

    def root(self, version: int = 1) -> bytes:
        return self.workspace.files()[f"{version}.root.json"]


def started(folder: Path, **more: Any) -> Desk:
    """A folder with one line, in the registry."""
    desk = Desk(folder, **more)
    assert operations.init(desk.publisher).done
    assert operations.line_add(desk.publisher, "press").done
    desk.publish()
    return desk


THREE = Thresholds(root=2)


class _Fetcher(FetcherInterface):
    def __init__(self, memory: MemoryRegistry) -> None:
        self._memory = memory

    def _fetch(self, url: str) -> Iterator[bytes]:
        data = upload.fetch(self._memory, TUF, url.rpartition("/")[2])
        if data is None:
            raise DownloadHTTPError(f"no {url}", 404)
        yield data


class Client:
    """A box that knows a root and nothing else; it keeps what it learns between calls."""

    def __init__(self, folder: Path, remote: MemoryRegistry, root: bytes) -> None:
        self._arguments = (str(folder), remote, root)
        folder.mkdir()

    def target(self, version: str = "1.0.0", line: str = "press") -> TargetFile | None:
        folder, remote, root = self._arguments
        updater = Updater(folder, "http://registry/", fetcher=_Fetcher(remote), bootstrap=root)
        return updater.get_targetinfo(f"models/{line}/{version}/manifest.json")
