"""A stick that somebody has brought, as a source: looked at before anything on it is believed, and copied before it is used.

Everything on it is opened without following a link, as a regular file and bounded (sources/layout_files.py); what is
signed is checked by trust/, and a blob counts only once its copy in the store has its digest (pull/download.py). So a
stick that changes, lies or is pulled out costs a failed import, which goes on where it was when the stick is back.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance import limits
from appliance.errors import FailedPrecondition, InvalidArgument
from appliance.registry.sources import layout_files
from appliance.registry.sources.base import Fetched
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.registry.sources.layout import LayoutBlob, LayoutSource

_VERSION = "1.0.0"


class NoLayout(FailedPrecondition):
    """The folder is there, and holds no OCI image layout that can be read."""

    default_reason = "NO_LAYOUT"


class _Marker(msgspec.Struct, frozen=True, rename={"version": "imageLayoutVersion"}):
    version: str


_decoder = msgspec.json.Decoder(_Marker)


class StickSource(LayoutSource):
    """A layout that may be pulled out: what is missing then isn't missing, it is out of reach."""

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        """As base.Source."""
        try:
            return super().manifest(repository, reference, bytes_max=bytes_max, validator=validator)
        except Absent:
            self._check_there()
            raise

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> LayoutBlob:
        """As base.Source."""
        try:
            return super().blob(repository, digest, offset=offset, length=length, validator=validator)
        except Absent:
            self._check_there()
            raise

    def tags(self, repository: str) -> Sequence[str]:
        """As base.Source."""
        self._check_there()
        return super().tags(repository)

    def _check_there(self) -> None:
        try:
            _check_marker(self._root)
        except Absent:
            raise Unreachable(f"{self.name} is gone: put the stick back, and import it again") from None


def open_stick(path: Path) -> StickSource:
    """The layout in the folder ``path``, whose marker and index can be read. Asks nothing but the medium.

    Raises InvalidArgument BAD_PATH for a path with "..", or that is no folder, NoLayout for what is no layout or one
    made to do harm, and Unreachable for a medium that fails.
    """
    if ".." in path.parts:
        raise InvalidArgument(f"{path} has a .. in it: give the folder's own path", reason="BAD_PATH")
    if not path.is_dir():
        raise InvalidArgument(
            f"{path} is no folder of this machine: mount the stick, and give the folder that holds oci-layout",
            reason="BAD_PATH",
        )
    try:
        _check_marker(path)
        layout_files.read_index(path)
    except Absent:
        raise NoLayout(
            f"{path} is no OCI layout (it needs oci-layout and index.json): is it the right folder?"
        ) from None
    except Malformed as error:
        raise NoLayout(f"{path} is no OCI layout that can be read: {error.message}") from None
    return StickSource(path)


def _check_marker(path: Path) -> None:
    data = layout_files.read_file(path, layout_files.MARKER, bytes_max=limits.layout_marker_bytes_max)
    try:
        version = _decoder.decode(data).version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{layout_files.MARKER}: {error}") from None
    if version != _VERSION:
        raise Malformed(f"{layout_files.MARKER} has the version {version[:50]!r}, not {_VERSION}")
