"""An engine process: ``python -m appliance.worker.engine_process CONTROL_FD``.

Loads one model, proves it, and serves it until the supervisor says otherwise. It has no network (osutil/seccomp.py)
and may die at any moment: the supervisor starts the next one.
"""

import logging
import socket
import sys
import time
from pathlib import Path

from appliance import events, frames, logs
from appliance.control import EngineReady, EngineRefused, FromChild, StartEngine, ToChild
from appliance.engine.base import Engine, LoadOptions
from appliance.engine.golden import run_golden
from appliance.engine.loading import load
from appliance.errors import ApplianceError, InternalError, ResourceExhausted
from appliance.osutil import memory_bound
from appliance.osutil.child import adopt_control
from appliance.osutil.memory import keep_freed_memory
from appliance.osutil.seccomp import forbid_network
from appliance.worker.engine_loop import EngineLoop
from appliance.worker.engine_seat import EngineSeat

_log = logging.getLogger(__name__)


def main() -> int:
    """Returns the exit status: 0 drained, 1 the model was refused."""
    # The journal first, which the filter would refuse. Both before any library is loaded: the filter holds for the threads that a thread starts later, not for older ones.
    journal = logs.Prepared()
    sealed = forbid_network()
    keep_freed_memory()
    memory_bound.die_first()
    control = adopt_control(int(sys.argv[1]), "engine")
    inbox = frames.Inbox(control)
    try:
        frame = inbox.next()
    except (frames.EndOfStream, OSError):
        return 0  # the supervisor is gone
    assert frame is not None  # the control socket blocks
    start = frames.Decoder[ToChild](ToChild).decode(frame[0])
    assert isinstance(start, StartEngine)
    name, version = start.spec.name, start.spec.version
    logs.configure(start.log, f"engine {name}:{version}", journal, model=name, version=version)
    if not sealed:
        _log.warning(
            "this kernel has no seccomp filter: the engine is not cut off from the network",
            extra=events.ENGINE_NOT_SEALED.of(),
        )
    seat = EngineSeat(start)
    seat.sit()
    try:
        engine, ready = _bring_up(start, seat)
    except ApplianceError as error:
        _tell(control, EngineRefused(error.code.value, error.reason, error.message))
        return 1
    except Exception:
        _log.exception("the model could not be loaded", extra=events.MODEL_LOAD_FAILED.of())
        unknown = InternalError("the model could not be loaded; the daemon's log says why", reason="LOAD_FAILED")
        _tell(control, EngineRefused(unknown.code.value, unknown.reason, unknown.message))
        return 1
    listener = socket.socket(fileno=start.listener_fd)
    handover = socket.socket(fileno=start.handover_fd) if start.handover_fd >= 0 else None
    seat.serve()
    _tell(control, ready)
    try:
        EngineLoop(engine, listener, control, inbox, handover, seat.called, seat.turn(engine.shares_cores())).run()
    finally:
        engine.close()
        # While the control channel is open: with its end the supervisor ends what is left of this process.
        logging.shutdown()
    return 0


def _bring_up(start: StartEngine, seat: EngineSeat) -> tuple[Engine, EngineReady]:
    began = time.monotonic_ns()
    folder = Path(start.folder)
    options = LoadOptions(
        start.threads, start.queue_max, start.cache_dir, start.digest, start.providers, seat.latency_wanted
    )
    memory_bound.bound(0)
    engine = load(start.spec, folder, options)
    engine.warm_up()
    passed = len(run_golden(engine, start.spec, folder)) if start.run_golden else 0
    _bound_memory(start.spec.limits.memory_mib)
    load_ms = (time.monotonic_ns() - began) // 1_000_000
    return engine, EngineReady(engine.signature(), load_ms, passed)


def _bound_memory(limit_mib: int) -> None:
    """What the engine may take beside what the load took; ResourceExhausted when that is too much already."""
    beyond = memory_bound.bound(limit_mib)
    if limit_mib > 0 and beyond > 0:
        needs = limit_mib + -(-beyond // (1024 * 1024))
        raise ResourceExhausted(
            f"the model takes {needs} MiB once it is loaded, and limits.memory_mib in its model.toml allows"
            f" {limit_mib}: allow more, with room for the calls",
            reason="MODEL_MEMORY",
        )


def _tell(control: socket.socket, message: FromChild) -> None:
    try:
        frames.send(control, message)
    except OSError:
        sys.exit(0)  # the supervisor is gone


if __name__ == "__main__":
    sys.exit(main())
