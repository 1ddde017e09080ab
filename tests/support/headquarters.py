"""Headquarters for functional tests: a publisher's folder, `appliance publish` in it, and the registry that it releases to."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from daemon_process import APPLIANCE, DEADLINE

_BOX = """
[server]
address = "127.0.0.1:0"
[registry]
url = "{url}"
prefix = "plant"
poll_seconds = {poll}
probation_seconds = {probation}
"""


def box_config(url: str, *, poll: float = 1, probation: float = 0) -> str:
    """The configuration of a machine that takes what Headquarters releases to ``url``; ``poll`` and ``probation`` in seconds."""
    return _BOX.format(url=url, poll=poll, probation=probation)


class Headquarters:
    """``url``: the registry, by default a folder beside the publisher's. ``root``: the first root of trust."""

    def __init__(self, folder: Path, url: str = "", *lines: str) -> None:
        self.folder = folder
        self.url = url or f"layout:{folder}/registry"
        self("publish", "init", "--prefix", "plant", "--registry", url or str(folder / "registry"))
        for line in lines:
            self("publish", "line", "add", line)
        self.root = folder / "publisher/metadata/1.root.json"

    def __call__(self, *arguments: str, code: int = 0) -> Any:
        """What an appliance command says, as its document."""
        done = subprocess.run(
            [*APPLIANCE, *arguments, "--json"],
            cwd=self.folder,
            env={**os.environ, "APPLIANCE_PUBLISH_PASSPHRASE": "a passphrase of the tests"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def release(self, folder: Path, version: str, *options: str) -> None:
        """Packs and releases a model folder named LINE-VERSION."""
        self("publish", "pack", str(folder))
        self("publish", "release", folder.name.partition("-")[0], version, *options)

    def blob_of(self, needle: bytes) -> Path:
        """The registry's blob that holds these bytes."""
        blobs = (self.folder / "registry/blobs/sha256").iterdir()
        return next(path for path in blobs if needle in path.read_bytes() and b"mediaType" not in path.read_bytes())
