"""The folders in which engines keep what is worth keeping across restarts: one for each version, by its digest.

Scratch, not a part of the store: losing one costs time. Only the engine of that version writes into its folder; the
daemon removes the folder with the version. What engines keep is made of prompts, so nobody else may read it.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from appliance import events

_log = logging.getLogger(__name__)
# What ``folder`` makes of a digest; nothing else is ever removed.
_FOLDER = re.compile(r"[a-z0-9]+-[0-9a-f]+")


class EngineCaches:
    """All of them, in ``state_dir``. What goes wrong is logged: a cache is never worth a failure."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / "cache"

    def folder(self, digest: str) -> Path:
        """Of the version with this manifest; the engine makes it when it has something to keep."""
        return self._root / digest.replace(":", "-")

    def tidy(self, digests: Iterable[str]) -> None:
        """Closes the folder to others, and removes what no version with one of ``digests`` can need."""
        kept = {self.folder(digest).name for digest in digests}
        try:
            self._root.mkdir(mode=0o700, exist_ok=True)
            os.chmod(self._root, 0o700)
            found = [entry.name for entry in os.scandir(self._root) if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            _log.warning("the engines' cache cannot be used: %s", error.strerror, extra=events.ENGINE_NO_CACHE.of())
            return
        for name in found:
            if name not in kept and _FOLDER.fullmatch(name):
                self._remove(self._root / name)

    def forget(self, digest: str) -> None:
        """The version is gone, and its engine has ended."""
        folder = self.folder(digest)
        if _FOLDER.fullmatch(folder.name):
            self._remove(folder)

    def _remove(self, folder: Path) -> None:
        try:
            shutil.rmtree(folder)  # follows no link, neither in the folder nor in its place
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("%s cannot be removed: %s", folder, error.strerror, extra=events.ENGINE_NO_CACHE.of())
            return
        _log.info("%s is removed", folder)
