"""``<state>/incoming/<upload>/``: where front-ends put the files of a model on its way in, until the store took them."""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from appliance import events
from appliance.errors import InvalidArgument, NotFound
from appliance.osutil import durable, in_use

_log = logging.getLogger(__name__)

FOLDER_NAME = "incoming"
_UPLOAD = re.compile(r"[0-9a-f]{32}")


class Incoming:
    """All uploads. Only ``take`` and ``clear`` remove any."""

    def __init__(self, state: Path) -> None:
        self._root = state / FOLDER_NAME
        durable.mkdir(self._root)

    @contextlib.contextmanager
    def take(self, upload: str) -> Iterator[Path]:
        """The folder of one upload, which is gone afterwards, whatever happened.

        Raises InvalidArgument for an id that can't be one, NotFound (UPLOAD_UNKNOWN) where there is no such upload.
        """
        if not _UPLOAD.fullmatch(upload):
            raise InvalidArgument("an upload id is 32 hexadecimal digits in lower case", reason="UPLOAD_ID")
        folder = self._root / upload
        if folder.is_symlink() or not folder.is_dir():
            raise NotFound("there is no such upload: send the model again", reason="UPLOAD_UNKNOWN")
        with in_use.marked(folder):
            try:
                yield folder
            finally:
                self._remove(folder)

    def clear(self) -> int:
        """Removes what dead processes left, and not what a front-end is still receiving. Returns how many."""
        count = 0
        for path in self._root.iterdir():
            if path.is_dir() and not path.is_symlink():
                with in_use.abandoned(path) as left:
                    if left:
                        self._remove(path)
                count += left
            else:
                path.unlink()
                count += 1
        return count

    def _remove(self, folder: Path) -> None:
        try:
            durable.remove_tree(folder)
        except OSError:
            _log.exception(
                "an upload could not be removed; the next start tries again", extra=events.STORE_UNKEMPT.of()
            )
