"""scripts/tuf_client: the box's TUF client by itself, over plain HTTP, as conformance suites drive clients.

    tuf_client --metadata-dir DIR init TRUSTED_ROOT
    tuf_client --metadata-dir DIR --metadata-url URL refresh
    tuf_client --metadata-dir DIR --metadata-url URL --target-name NAME --target-base-url URL --target-dir DIR download

The interface is CLIENT-CLI.md of theupdateframework/tuf-conformance: exit status 0 when all went well, else 1.
"""

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import quote

from tuf.api.exceptions import DownloadError, RepositoryError

from appliance import limits
from appliance.clock import SystemClock
from appliance.errors import ApplianceError
from appliance.osutil import bounded, durable
from appliance.registry.trust import root as roots
from appliance.registry.trust.clock import ClockFloor, as_datetime
from appliance.registry.trust.plain_http import PlainHttpFetcher
from appliance.registry.trust.updater import BoxUpdater

OK, FAILED = 0, 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="scripts/tuf_client", description="The box's TUF client over plain HTTP.")
    made.add_argument("--metadata-dir", type=Path, required=True, help="where trusted metadata are kept")
    made.add_argument("--metadata-url", help="base URL of the metadata")
    made.add_argument("--target-name", help="the target's path")
    made.add_argument("--target-base-url", help="base URL of the targets")
    made.add_argument("--target-dir", type=Path, help="where verified targets go")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="trust a root").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh", help="update the metadata")
    commands.add_parser("download", help="update the metadata and fetch a target")
    return made


class Client:
    """The metadata in one folder; ``url`` is empty where nothing is to be fetched."""

    def __init__(self, folder: Path, url: str) -> None:
        durable.mkdir(folder)
        self._folder = folder
        self._url = url
        self._floor = ClockFloor(folder, SystemClock())

    def trust(self, data: bytes) -> None:
        """Begins with this root; asks nobody. Raises BadRoot."""
        roots.parse(data)
        self._updater(data)

    def refresh(self) -> BoxUpdater:
        """Updates the top-level metadata. Raises RepositoryError, DownloadError, OSError."""
        now_s = self._floor.now_s()
        updater = self._updater(None)
        updater.refresh()
        self._floor.agreed(now_s)
        return updater

    def download(self, name: str, base_url: str, folder: Path) -> Path:
        """The verified target's file in ``folder``, which is there whole or not at all. Raises as refresh."""
        updater = self.refresh()
        target = updater.get_targetinfo(name)
        if target is None:
            raise RepositoryError(f"there is no target {name}")
        durable.mkdir(folder)
        path = folder / quote(name, "")
        if updater.find_cached_target(target, str(path)) is not None:
            return path
        temp = durable.temp_beside(path)
        try:
            updater.download_target(target, str(temp), base_url)
            with temp.open("rb") as file:
                os.fsync(file.fileno())
            durable.rename(temp, path)
        finally:
            temp.unlink(missing_ok=True)
        return path

    def _updater(self, root: bytes | None) -> BoxUpdater:
        now = as_datetime(self._floor.now_s())
        return BoxUpdater(self._folder, self._url, PlainHttpFetcher(), now=now, bootstrap=root)


def run(options: argparse.Namespace) -> None:
    """What was asked for. Raises ApplianceError, RepositoryError, DownloadError, OSError, ValueError."""
    client = Client(options.metadata_dir, options.metadata_url or "")
    if options.command == "init":
        client.trust(bounded.read(options.trusted_root, limits.tuf_root_bytes_max))
        return
    if not options.metadata_url:
        raise ValueError(f"{options.command} needs --metadata-url")
    if options.command == "refresh":
        client.refresh()
        return
    if not (options.target_name and options.target_base_url and options.target_dir):
        raise ValueError("download needs --target-name, --target-base-url and --target-dir")
    client.download(options.target_name, options.target_base_url, options.target_dir)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; its exit status."""
    try:
        run(parser().parse_args(arguments))
    except (ApplianceError, RepositoryError, DownloadError, OSError, ValueError) as error:
        sys.stderr.write(f"tuf_client: {type(error).__name__}: {error}\n")
        return FAILED
    return OK


if __name__ == "__main__":
    sys.exit(main())
