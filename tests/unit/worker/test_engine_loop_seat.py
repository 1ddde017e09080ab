"""What the loop does for the other engines' sake: it tells of calls, and steps in its turn."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from appliance import frames
from appliance.answers import InferDone
from appliance.calls import AnyCall, InferCall
from appliance.control import Route, RouteTable
from appliance.engine.base import Engine, Reply
from appliance.errors import InvalidArgument
from appliance.types import EngineStats, ModelKind, ModelSignature, ModelState, Tensor
from appliance.worker.engine_loop import EngineLoop
from appliance.worker.lease import Lease
from appliance.worker.router import Router

SIGNATURE = ModelSignature(ModelKind.TENSOR, "test", (), ())
DEADLINE = 10.0


class Watched(Engine):
    """Notes in ``events`` what happens, and in whose turn; refuses a call without tensors' names."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._queue: list[Reply] = []

    def signature(self) -> ModelSignature:
        return SIGNATURE

    def warm_up(self) -> None: ...

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:
        self.events.append("submit")
        if isinstance(call, InferCall) and call.parameters:
            raise InvalidArgument("refused", reason="TEST")
        self._queue.append(reply)

    def has_work(self) -> bool:
        return bool(self._queue)

    def step(self) -> None:
        self.events.append("step")
        self._queue.pop().finish(InferDone(()))

    def stats(self) -> EngineStats:
        return EngineStats()

    def called(self) -> None:
        self.events.append("called")

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        self.events.append("turn")
        yield True
        self.events.append("over")


def test_calls_are_told_before_they_are_looked_at_and_steps_are_done_in_turn(tmp_path: Path) -> None:
    engine = Watched()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = tmp_path / "e.sock"
    listener.bind(str(path))
    listener.listen(4)
    control, theirs = socket.socketpair()
    router = Router(4)
    router.apply(RouteTable(1, (Route("m", "1", ModelState.READY, True, str(path), SIGNATURE),)))
    loop = EngineLoop(engine, listener, theirs, frames.Inbox(theirs), None, engine.called, engine.turn)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    with Lease(router, "m") as lease:
        lease.exchange(InferCall(), [])
    with Lease(router, "m") as lease, contextlib.suppress(InvalidArgument):
        lease.exchange(InferCall(parameters={"refuse": True}), [])
    control.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert engine.events == ["called", "submit", "turn", "step", "over", "called", "submit"]
