"""How an engine process takes the seat that the supervisor gave it: cores, scheduler, control group, board."""

import contextlib
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from appliance import events
from appliance.control import StartEngine
from appliance.osutil import control_groups, scheduling
from appliance.osutil.realtime import Guard
from appliance.osutil.rest import Rest
from appliance.worker.board import Board, Notice, Turns

_log = logging.getLogger(__name__)


class EngineSeat:
    """``sit`` before the model is loaded, ``serve`` when it is."""

    def __init__(self, start: StartEngine) -> None:
        self._class = start.service_class
        self._cores = start.cores
        self._group = start.control_group
        self._realtime = start.realtime
        self._slices = scheduling.slices_known()
        self._board = Board(start.board_fd) if start.board_fd >= 0 else None
        self._notice: Notice | None = None
        if self._board and start.slot >= 0:
            self._notice = self._board.notice(start.slot)

    def sit(self) -> None:
        """Cores and group for all classes; a throughput engine's nice value, so that its load disturbs nobody."""
        if self._cores:
            with contextlib.suppress(OSError):  # a container may forbid it
                os.sched_setaffinity(0, self._cores)
        if self._group:
            try:
                control_groups.join(Path(self._group))
            except OSError as error:
                _log.warning("not in its control group: %s", error.strerror, extra=events.PRIORITY_REFUSED.of())
        if self._class != "throughput":
            return
        try:
            scheduling.apply(scheduling.treatment("throughput", realtime=False, slices=self._slices))
        except OSError as error:
            _log.warning(
                "no nice value for this engine: the system refuses it (%s)",
                error.strerror,
                extra=events.PRIORITY_REFUSED.of(),
            )

    def serve(self) -> None:
        """The model is loaded: from now on a latency engine's work is short, and goes before others'."""
        if self._class == "latency":
            Guard("latency", self.throughput_wanted, realtime=self._realtime, slices=self._slices).start()

    def latency_wanted(self) -> bool:
        """Whether latency-class work is about."""
        return self._board is not None and self._board.latency_wanted()

    def throughput_wanted(self) -> bool:
        """Whether throughput engines compute."""
        return self._board is not None and self._board.throughput_wanted()

    def called(self) -> None:
        """A call has come; a throughput engine's is nothing to make room for."""
        if self._notice and self._class == "latency":
            self._notice.called()

    def turn(self, shares_cores: bool) -> Callable[[], AbstractContextManager[object]] | None:
        """What each step is to be done in; None: anything. ``shares_cores``: it computes on them, not on a device."""
        if self._board is None or not self._cores or not shares_cores:
            return None
        if self._class == "throughput":
            return Turns(self._board.fd, self._cores, self._notice).turn
        rest, whenever = Rest(self._board.throughput_wanted), nullcontext()

        def rested() -> AbstractContextManager[object]:
            rest()
            return whenever

        return rested
