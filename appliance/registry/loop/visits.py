"""Sticks that an operator has brought: one after the other, each opened, imported by the loop, and given a status to carry back."""

from collections.abc import Callable
from pathlib import Path

from appliance.clock import Clock
from appliance.errors import ApplianceError, InvalidArgument, Unavailable
from appliance.registry.sources.base import Source
from appliance.sync_questions import SyncStatus, Visit

# Opens the layout in a folder; raises ApplianceError for one that is none.
Open = Callable[[Path], Source]
# Writes this machine's status into the folder, and returns the file; raises ApplianceError or OSError where it can't.
WriteBack = Callable[[Path, SyncStatus], Path]


class Visits:
    """``path``: the stick that is being imported, "" none. ``last``: what became of the one before."""

    def __init__(self, clock: Clock, opened: Open, write_back: WriteBack) -> None:
        self._clock = clock
        self._open = opened
        self._write_back = write_back
        self._asked: Path | None = None
        self.path = ""
        self.last: Visit | None = None

    @property
    def shown(self) -> str:
        """The stick that is being imported, or that will be next."""
        return self.path or str(self._asked or "")

    @property
    def asked(self) -> bool:
        """Whether one waits to be imported."""
        return self._asked is not None

    def ask(self, path: str) -> None:
        """Raises InvalidArgument for a path that is none, Unavailable VISIT_BUSY, and what ``opened`` raises."""
        folder = Path(path)
        if not folder.is_absolute() or "\0" in path:
            raise InvalidArgument(f"{path[:200]!r} is not an absolute path of this machine", reason="BAD_PATH")
        if self.path or self._asked:
            raise Unavailable(
                f"{self.path or self._asked} is being imported: try again when it is", reason="VISIT_BUSY"
            )
        self._open(folder)
        self._asked = folder

    def begin(self) -> Source | None:
        """The stick that waits, which is imported from now on; None when there is none, or it has gone meanwhile."""
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        self.path = str(asked)
        return self._open(asked)

    def end(self, status: Callable[[], SyncStatus], problem: str) -> None:
        """The round is over; nothing where no stick is being imported."""
        if not self.path:
            return
        path, ended_ms = self.path, self._clock.wall_ns() // 1_000_000
        now = status()
        returned, not_returned = "", ""
        try:
            returned = str(self._write_back(Path(path), now))
        except ApplianceError as error:
            not_returned = error.message
        except OSError as error:
            not_returned = f"it cannot be written to: {error.strerror or error}"
        self.last = Visit(path, ended_ms, problem, now.lines, returned, not_returned)
        self.path = ""
