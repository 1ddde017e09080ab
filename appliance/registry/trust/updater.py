"""python-tuf's client (TUF specification 1.0, clause 5), with two things of our own: durable writes, and the time.

``tuf.ngclient.Updater`` writes its cache without fsync, removes root.json before it makes it anew, and asks the system
for the time. It offers no way to change that, so this class replaces two of its methods and one attribute of its trusted
set; test_tuf_updater.py fails when a new version of the library no longer has or no longer uses them.
"""

import contextlib
import os
from datetime import datetime
from pathlib import Path

from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from appliance import limits
from appliance.osutil import durable
from appliance.osutil.faults import fault_point

CONFIG = UpdaterConfig(
    max_root_rotations=limits.tuf_root_rotations_max,
    max_delegations=limits.tuf_delegations_max,
    root_max_length=limits.tuf_root_bytes_max,
    timestamp_max_length=limits.tuf_timestamp_bytes_max,
    snapshot_max_length=limits.tuf_snapshot_bytes_max,
    targets_max_length=limits.tuf_file_bytes_max,
)


class BoxUpdater(Updater):
    """One refresh of the metadata in ``folder``, at the time ``now``. One at a time for a folder.

    ``bootstrap``: the newest root that is trusted; None for the one in the folder. Raises as Updater does
    (RepositoryError, DownloadError, OSError), and whatever the fetcher raises.
    """

    def __init__(
        self, folder: Path, base_url: str, fetcher: FetcherInterface, *, now: datetime, bootstrap: bytes | None
    ) -> None:
        durable.mkdir(folder)
        super().__init__(str(folder), base_url, fetcher=fetcher, config=CONFIG, bootstrap=bootstrap)
        self._trusted_set.reference_time = now

    def _persist_file(self, filename: str, data: bytes) -> None:
        path = Path(filename)
        with contextlib.suppress(OSError):
            if not path.is_symlink() and path.stat().st_size == len(data) and path.read_bytes() == data:
                return
        if path.is_dir():
            durable.set_aside(path)
        durable.write(path, data, point="trust.metadata")

    def _update_root_symlink(self) -> None:
        link = Path(self._dir, "root.json")
        current = f"root_history/{self._trusted_set.root.version}.root.json"
        with contextlib.suppress(OSError):
            if os.readlink(link) == current:
                return
        temp = durable.temp_beside(link)
        with contextlib.suppress(FileNotFoundError):
            temp.unlink()
        fault_point("trust.metadata.link")
        temp.symlink_to(current)
        fault_point("trust.metadata.link_rename")
        temp.replace(link)
        durable.sync_folder(link.parent)
