"""What the supervisor has found out about this machine's processors, and what it deals out of them to engines."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance import core_plan, events, limits
from appliance.config import Config
from appliance.control import StartEngine
from appliance.model_spec import ModelSpec
from appliance.osutil import cpu_groups, scheduling
from appliance.worker.board import make_board

_log = logging.getLogger(__name__)


class Seat(msgspec.Struct, frozen=True):
    """What one instance of a model gets: cores, threads, and its ``slot`` on the board, -1: none."""

    cores: tuple[int, ...] = ()
    threads: int = 0
    slot: int = -1


class Processors:
    """``cores`` (): engines are put nowhere in particular. ``realtime``: the latency path may have its class.

    ``board_fd``: see board.py, -1: there is none. ``throughput_group``: see osutil/cpu_groups.py, "": there is none.
    """

    def __init__(
        self, cores: Sequence[int] = (), *, realtime: bool = False, board_fd: int = -1, throughput_group: str = ""
    ) -> None:
        self.realtime = realtime
        self.board_fd = board_fd
        self._cores = tuple(cores)
        self._throughput_group = throughput_group
        self._free = list(range(limits.board_slots_max if board_fd >= 0 else 0))

    def seat(self, spec: ModelSpec, instance: int, threads: int) -> Seat:
        """The seat of an instance; ``threads``: what the configuration names. Give it back when the instance is gone."""
        if not self._cores:
            return Seat((), threads)
        named = {"onnx": spec.onnx.threads, "llama": spec.llama.threads}.get(spec.engine, 0)
        load = core_plan.Load(spec.name, spec.service_class, named or threads, spec.serving.instances)
        place = core_plan.places(load, self._cores)[instance]
        return Seat(place.cores, place.threads, self._free.pop(0) if self._free else -1)

    def give_back(self, seat: Seat) -> None:
        """The slot may be another's."""
        if seat.slot >= 0:
            self._free.append(seat.slot)

    def seated(self, order: StartEngine, seat: Seat) -> StartEngine:
        """``order`` with all that an engine must know of its seat."""
        throughput = order.spec.service_class == "throughput"
        return msgspec.structs.replace(
            order,
            threads=seat.threads,
            cores=seat.cores,
            service_class=order.spec.service_class,
            realtime=self.realtime,
            board_fd=self.board_fd,
            slot=seat.slot,
            cpu_group=self._throughput_group if throughput else "",
        )

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """What every engine and front-end inherits."""
        return (self.board_fd,) if self.board_fd >= 0 else ()


def find_processors(config: Config) -> Processors:
    """Looks, makes control groups where that is possible, and says in the log what cannot be had."""
    refusal = scheduling.try_realtime()
    group = _throughput_group(keep_realtime=config.engines.realtime and not refusal)
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
    return Processors(
        cores, realtime=config.engines.realtime and not refusal, board_fd=board_fd, throughput_group=group
    )


def _throughput_group(keep_realtime: bool, root: Path = Path("/")) -> str:
    """The group of throughput engines; "" where there is none.

    On some kernels a new group has no share of real time: then the real-time class is worth more than weights.
    """
    try:
        groups = cpu_groups.make_groups(root)
    except cpu_groups.NoGroupsError as error:
        _log.info("no control group for models of the class throughput: %s; their nice value counts alone", error)
        return ""
    if keep_realtime and scheduling.try_realtime():
        cpu_groups.undo(groups)
        _log.info("no control group for models of the class throughput: it would have no share of real time")
        return ""
    return str(groups.throughput)
