"""The parts of one store, as those who look after it (check.py, repair.py, garbage.py) need them."""

from pathlib import Path

import msgspec

from appliance.store.blobs import Blobs
from appliance.store.desired import DesiredFile
from appliance.store.index import Index
from appliance.store.views import Views


class Parts(msgspec.Struct, frozen=True):
    """What store.Store is made of; ``state`` is the state folder."""

    state: Path
    blobs: Blobs
    index: Index
    views: Views
    desired: DesiredFile

    def place(self, path: Path) -> str:
        """A path as operators are told it: relative to the state folder."""
        return path.relative_to(self.state).as_posix()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that hold nothing but files of the store itself."""
        return self.state / "store", self.state / "state", self.blobs.folder
