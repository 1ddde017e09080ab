"""Sticks with real signed releases, and a machine that imports them: trust and pull as the sync process has them, no daemon."""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import publishing
import pytest

from appliance.clock import Clock
from appliance.osutil import beneath
from appliance.publish.bundle.export import Carried, Wish, carry
from appliance.registry.bundle.stick import open_stick
from appliance.registry.pull import artefact
from appliance.registry.pull.artefact import Places
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.sources import layout, layout_files
from appliance.registry.trust.releases import Trust
from appliance.store.blobs import Blobs


def silent(_what: str, _done: int, _total: int) -> None: ...


def desk(folder: Path, prefix: str = "acme", **files: bytes) -> publishing.Desk:
    """A publisher with press 1.0.0 released."""
    made = publishing.started(folder / "publisher", prefix=prefix)
    made.pack(folder / "m-1.0.0", "1.0.0", **files)
    made.release("1.0.0")
    made.publish()
    return made


def exported(of: publishing.Desk, stick: Path, *lines: str, channel: str = "") -> Carried:
    return carry(of.remote, stick, Wish(of.publisher.settings.prefix, of.root(), lines, channel), of.clock, silent)


class Box:
    """A machine that trusts ``root``. ``visit`` brings all that is released on a stick."""

    def __init__(self, folder: Path, root: bytes, clock: Clock, prefix: str = "acme") -> None:
        self.folder, self.root, self.clock, self.prefix = folder, root, clock, prefix
        self.blobs = Blobs(folder / "store")

    def visit(self, stick: Path) -> list[str]:
        source = open_stick(stick)
        trust = Trust(self.folder / "trust", source, self.prefix, self.clock)
        trust.install(self.root)
        brought = []
        for release in trust.refresh().releases:
            data = trust.manifest(release)
            missing = artefact.plan(data, self.blobs, thorough=True)
            places = Places(self.folder, self.blobs)
            cancelled = threading.Event()
            artefact.pull(source, release.repository, missing, places, Bandwidth(), 1, lambda *_: None, cancelled)
            assert not artefact.plan(data, self.blobs, thorough=True).blobs
            brought.append(f"{release.line}:{release.version}")
        return brought

    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.blobs.folder.iterdir())


class PulledOut:
    """The stick is pulled out at the ``at``-th time that something on it is opened or read; 0: never. ``seen`` counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int = errno.EIO) -> None:
        self.at = self.seen = 0
        self._number = number
        opened, pread = beneath.opened, os.pread
        monkeypatch.setattr(layout_files.beneath, "opened", self._counted(opened))
        monkeypatch.setattr(layout_files, "open", self._reading, raising=False)
        # A module of its own: the store reads its partial files with the same function.
        monkeypatch.setattr(layout, "os", _Os(self._counted(pread)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            self.step()
            return call(*arguments, **more)

        return counted

    def step(self) -> None:
        self.seen += 1
        if self.at and self.seen >= self.at:
            raise OSError(self._number, os.strerror(self._number))

    def _reading(self, fd: int, *_: Any, **__: Any) -> "_File":
        return _File(self, fd)


class _Os:
    def __init__(self, pread: Callable[..., bytes]) -> None:
        self.pread = pread
        self.close = os.close


class _File:
    """What open() gives for a descriptor, which may fail when it is read."""

    def __init__(self, out: PulledOut, fd: int) -> None:
        self._out, self._fd = out, fd

    def read(self, size: int) -> bytes:
        self._out.step()
        return os.read(self._fd, size)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.close(self._fd)
