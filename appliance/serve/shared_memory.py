"""The shared memory that clients have registered (Triton's system shared memory extension), as one front-end knows it.

The supervisor keeps the list, so that every front-end has the same: what is registered through one is known to all of
them before its answer goes out, and what is unregistered is forgotten by all of them.
"""

import itertools
import logging
import os
from typing import NamedTuple

from appliance import events, limits
from appliance.control import RegionTable
from appliance.errors import AlreadyExists, ApplianceError, FailedPrecondition, InvalidArgument, NotFound, Unimplemented
from appliance.questions import AskRegister, AskUnregister, RegionEntry
from appliance.serve.asking import STATUS_SECONDS_MAX, Asks
from appliance.serve.shared_tensors import CallRegions
from appliance.serve.validate import quote
from appliance.worker.channel import last
from appliance.worker.connection import close_idle_connections
from appliance.worker.regions import SharedRegion, identity_of, open_region

_log = logging.getLogger(__name__)


class _Known(NamedTuple):
    """``region`` is None when the file could not be opened, as after a restart when it has lost its name."""

    entry: RegionEntry
    region: SharedRegion | None


class SharedMemory:
    """``apply`` runs on the control thread; everything else on any."""

    def __init__(self, enabled: bool, supervisor: Asks) -> None:
        self.enabled = enabled
        self._supervisor = supervisor
        self._numbers = itertools.count(1)
        # Replaced whole, never changed: readers need no lock.
        self._known: dict[str, _Known] = {}

    # --- the list ----------------------------------------------------------------------------------------------------

    def apply(self, table: RegionTable) -> None:
        """Knows what is in ``table`` from now on, and nothing else."""
        before = self._known
        after = {entry.name: self._follow(before.get(entry.name), entry) for entry in table.regions}
        self._known = after
        gone = [k.region for k in before.values() if k.region is not None and after.get(k.entry.name) is not k]
        for region in gone:
            region.unregistered = True
        if gone:
            # Engines let go of it with the connection; those in use are closed when their call has ended.
            close_idle_connections(lambda connection: connection.is_outdated())

    def _follow(self, known: _Known | None, entry: RegionEntry) -> _Known:
        if known is not None and known.entry == entry:
            return known
        try:
            return _Known(entry, SharedRegion(next(self._numbers), entry))
        except (ApplianceError, OSError) as error:
            _log.warning(
                "shared memory region %r cannot be used: %s", entry.name, error, extra=events.CALL_REGION_REFUSED.of()
            )
            return _Known(entry, None)

    def find(self, name: str) -> SharedRegion:
        """Raises NotFound, or FailedPrecondition when its file is gone."""
        known = self._known.get(name)
        if known is None:
            raise NotFound(
                f"Unable to find shared memory region: {quote(name)}; it must be registered first",
                reason="SHARED_MEMORY_UNKNOWN",
            )
        if known.region is None:
            raise FailedPrecondition(
                f"the file of shared memory region {quote(name)} was removed or replaced after it was registered: "
                "unregister the region and register it again",
                reason="SHARED_MEMORY_GONE",
            )
        return known.region

    def for_call(self) -> CallRegions | None:
        """What collects the regions of a call; None where shared memory is off."""
        return CallRegions(self.find) if self.enabled else None

    # --- what clients ask --------------------------------------------------------------------------------------------

    def entries(self, name: str = "") -> list[RegionEntry]:
        """What is registered, all or the one of that name; raises NotFound."""
        self._check_enabled()
        if not name:
            return [known.entry for known in self._known.values()]
        known = self._known.get(name)
        if known is None:
            raise NotFound(f"Unable to find system shared memory region: {quote(name)}", reason="SHARED_MEMORY_UNKNOWN")
        return [known.entry]

    def register(self, name: str, key: str, offset: int, nbytes: int) -> None:
        """Makes a region known to all front-ends.

        Raises InvalidArgument for a name, key or part of the file that is none, NotFound, PermissionDenied, AlreadyExists
        for a name that is taken, ResourceExhausted for one too many.
        """
        self._check_enabled()
        if not 0 < len(name) <= limits.shared_region_name_chars_max:
            raise InvalidArgument(
                f"the name of a shared memory region has 1 to {limits.shared_region_name_chars_max} characters, this one "
                f"has {len(name)}",
                reason="SHARED_MEMORY_NAME",
            )
        if name in self._known:
            raise AlreadyExists(
                f"shared memory region {quote(name)} is registered already: unregister it first",
                reason="SHARED_MEMORY_EXISTS",
            )
        entry = _looked_up(name, key, offset, nbytes)
        last(self._supervisor.ask(AskRegister(entry), STATUS_SECONDS_MAX))

    def unregister(self, name: str) -> None:
        """All of them when ``name`` is empty. One that isn't there is no error, as with Triton."""
        self._check_enabled()
        last(self._supervisor.ask(AskUnregister(name), STATUS_SECONDS_MAX))

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise Unimplemented(
                "this server takes no tensors through shared memory: send them in the request, or let the operator set "
                "server.shared_memory = true",
                reason="SHARED_MEMORY",
            )


def _looked_up(name: str, key: str, offset: int, nbytes: int) -> RegionEntry:
    """The entry for a part of a file; the file is looked at, and closed again."""
    fd = open_region(key)
    try:
        size = os.fstat(fd).st_size
        if nbytes < 1 or offset < 0 or offset + nbytes > size:
            raise InvalidArgument(
                f"shared memory region {quote(name)} is to be {nbytes} bytes at offset {offset} of {quote(key)}, which "
                f"has {size} bytes",
                reason="SHARED_MEMORY_BOUNDS",
            )
        return RegionEntry(name, key, offset, nbytes, *identity_of(fd))
    finally:
        os.close(fd)
