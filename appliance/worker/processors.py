"""What the supervisor has found out about this machine's processors, and what it deals out of them to engines."""

import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance import core_plan, events, limits
from appliance.config import Config
from appliance.control import StartEngine
from appliance.model_spec import ModelSpec
from appliance.osutil import control_groups, memory_bound, scheduling
from appliance.osutil.control_groups import ControlGroups
from appliance.worker.board import make_board

_log = logging.getLogger(__name__)


class Seat(msgspec.Struct, frozen=True):
    """What one instance of a model gets: cores, threads, its ``slot`` on the board, -1: none, and its control group."""

    cores: tuple[int, ...] = ()
    threads: int = 0
    slot: int = -1
    group: str = ""


class Processors:
    """``cores`` (): engines are put nowhere in particular. ``realtime``: the latency path may have its class.

    ``board_fd``: see board.py, -1: there is none. ``groups``: see osutil/control_groups.py.
    """

    def __init__(
        self,
        cores: Sequence[int] = (),
        *,
        realtime: bool = False,
        board_fd: int = -1,
        groups: ControlGroups | None = None,
    ) -> None:
        self.realtime = realtime
        self.board_fd = board_fd
        self._cores = tuple(cores)
        self._groups = groups
        self._numbers = itertools.count(1)
        self._free = list(range(limits.board_slots_max if board_fd >= 0 else 0))

    def seat(self, spec: ModelSpec, instance: int, threads: int, size_bytes: int = 0) -> Seat:
        """The seat of an instance; ``threads``: what the configuration names; ``size_bytes``: of the model's files.

        Give it back when the instance is gone.
        """
        group = self._group(spec, size_bytes)
        if not self._cores:
            return Seat((), threads, -1, group)
        named = {"onnx": spec.onnx.threads, "llama": spec.llama.threads}.get(spec.engine, 0)
        load = core_plan.Load(spec.name, spec.service_class, named or threads, spec.serving.instances)
        place = core_plan.places(load, self._cores)[instance]
        return Seat(place.cores, place.threads, self._free.pop(0) if self._free else -1, group)

    def _group(self, spec: ModelSpec, size_bytes: int) -> str:
        if self._groups is None:
            return ""
        throughput = spec.service_class == "throughput"
        most = memory_bound.group_bytes(spec.limits.memory_mib, size_bytes)
        try:
            made = control_groups.make_engine_group(self._groups, next(self._numbers), most, throughput=throughput)
        except OSError as error:
            facts = events.PRIORITY_REFUSED.of(model=spec.name)
            _log.warning("no control group of its own for an engine of %s: %s", spec.name, error.strerror, extra=facts)
            return ""
        return str(made) if made else ""

    def give_back(self, seat: Seat) -> None:
        """The slot may be another's."""
        if seat.slot >= 0:
            self._free.append(seat.slot)
        if seat.group:
            control_groups.remove_engine_group(Path(seat.group))

    def seated(self, order: StartEngine, seat: Seat) -> StartEngine:
        """``order`` with all that an engine must know of its seat."""
        return msgspec.structs.replace(
            order,
            threads=seat.threads,
            cores=seat.cores,
            service_class=order.spec.service_class,
            realtime=self.realtime,
            board_fd=self.board_fd,
            slot=seat.slot,
            control_group=seat.group,
        )

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """What every engine and front-end inherits."""
        return (self.board_fd,) if self.board_fd >= 0 else ()


def find_processors(config: Config) -> Processors:
    """Looks, makes control groups where that is possible, and says in the log what cannot be had."""
    refusal = scheduling.try_realtime()
    groups = _control_groups(keep_realtime=config.engines.realtime and not refusal)
    if config.engines.realtime and refusal:
        _log.warning(
            "no real-time class for models of the class latency: %s", refusal, extra=events.PRIORITY_REFUSED.of()
        )
    try:
        board_fd = make_board()
    except OSError as error:
        _log.warning(
            "engines cannot tell each other when they compute: %s", error.strerror, extra=events.PRIORITY_REFUSED.of()
        )
        board_fd = -1
    cores = sorted(os.sched_getaffinity(0))
    return Processors(cores, realtime=config.engines.realtime and not refusal, board_fd=board_fd, groups=groups)


def _control_groups(keep_realtime: bool, root: Path = Path("/")) -> ControlGroups | None:
    """The groups of this daemon; None where there are none.

    On some kernels a new group has no share of real time: then the real-time class is worth more than weights.
    """
    try:
        groups = control_groups.make_groups(root)
    except control_groups.NoGroupsError as error:
        _log.info("no control groups for engines: %s; nice values and the daemon's own bounds of memory count", error)
        return None
    if keep_realtime and scheduling.try_realtime():
        control_groups.undo(groups)
        _log.info("no control groups for engines: they would have no share of real time")
        return None
    return groups
