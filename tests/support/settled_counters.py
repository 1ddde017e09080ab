"""The counters of a language model's engine, exact: Status shows what the engine's last sign of life said, a second old."""

import time

from daemon_process import DEADLINE, Daemon

from appliance.pb.appliance.v1 import admin_pb2, generation_pb2, generation_pb2_grpc


def settled_counters(daemon: Daemon, model: str) -> admin_pb2.EngineCounters:
    """With all in them that has ended by now. Makes a call of one token as a mark, which is counted too."""
    began_ms = time.time_ns() // 1_000_000
    with daemon.channel() as channel:
        request = generation_pb2.GenerateRequest(model=model, prompt="a", options=generation_pb2.Options(max_tokens=1))
        list(generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=DEADLINE))
    daemon.eventually(lambda: daemon.model(model).counters.last_inference_ms >= began_ms)
    return daemon.model(model).counters


def eventually_cancelled(daemon: Daemon, model: str, before: admin_pb2.EngineCounters, count: int = 1) -> None:
    """Waits until the engine has let go of ``count`` cancelled calls since ``before``, and no more, and rests."""

    def rests() -> bool:
        now = daemon.model(model).counters
        return now.cancel_count >= before.cancel_count + count and not now.running and not now.waiting

    daemon.eventually(rests)
    assert daemon.model(model).counters.cancel_count == before.cancel_count + count
