"""The process itself: started as the supervisor starts it, spoken to over its control channel."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from engine_simulator import ECHO, EngineSimulator

from appliance import frames
from appliance.config import Config, PathsConfig, ServerConfig
from appliance.control import (
    Applied,
    Ask,
    Beat,
    Control,
    Drain,
    FromChild,
    FrontEndReady,
    FrontEndRefused,
    Reload,
    Route,
    RouteTable,
    StartFrontEnd,
    Told,
)
from appliance.osutil.child import Child, spawn
from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.questions import AskStatus, DaemonStatus
from appliance.types import ModelState

PATIENCE = 20


class Supervised:
    """A front-end and the supervisor's end of its channel."""

    def __init__(self, folder: Path, **server: object) -> None:
        fields = {"address": "127.0.0.1:0", "threads": 16, "front_ends": 1, **server}
        self.config = Config(
            server=ServerConfig(**fields),  # type: ignore[arg-type]
            paths=PathsConfig(state=str(folder / "state"), runtime=str(folder / "run")),
        )
        self.child: Child = spawn("appliance.serve.front_end")
        self.child.control.settimeout(PATIENCE)
        self._inbox = frames.Inbox(self.child.control)
        self._decoder: frames.Decoder[Control] = frames.Decoder(FromChild)

    def send(self, message: Control) -> None:
        frames.send(self.child.control, message)

    def expect(self, kind: type) -> Control:
        """The next message of that kind; beats and others before it are passed over."""
        while True:
            frame = self._inbox.next()
            assert frame is not None
            message = self._decoder.decode(frame[0])
            if isinstance(message, kind):
                return message

    def ready(self) -> str:
        self.send(StartFrontEnd(self.config, 0, min(os.sched_getaffinity(0))))
        ready = self.expect(FrontEndReady)
        assert isinstance(ready, FrontEndReady)
        return ready.address

    def end(self) -> None:
        self.child.control.close()
        self.child.process.kill()
        self.child.process.wait()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Supervised]:
    front = Supervised(tmp_path)
    yield front
    front.end()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineSimulator]:
    engine = EngineSimulator(str(tmp_path / "engine.sock"))
    yield engine
    engine.close()


def table(engine: EngineSimulator, epoch: int = 1) -> RouteTable:
    return RouteTable(epoch, (Route("echo", "1.0.0", ModelState.READY, True, engine.path, ECHO),))


def request(do: str = "") -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="echo")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    message.raw_input_contents.append(bytes(12))
    if do:
        message.parameters["do"].string_param = do
    return message


def refusal(stub: pb_grpc.GRPCInferenceServiceStub) -> grpc.StatusCode | None:
    """What a new call is told; None when it is answered."""
    error = stub.ModelInfer.future(request(), timeout=PATIENCE).exception()
    return error.code() if isinstance(error, grpc.RpcError) else None


def test_life_of_a_front_end(front: Supervised, engine: EngineSimulator) -> None:
    address = front.ready()
    assert os.sched_getaffinity(front.child.process.pid) == {min(os.sched_getaffinity(0))}
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        # Made before the first table, answered after it: never "unknown model".
        early = stub.ModelInfer.future(request(), timeout=PATIENCE)
        front.send(table(engine))
        assert len(early.result().raw_output_contents[0]) == 12
        assert front.expect(Applied) == Applied(1)
        front.send(Reload())
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(request("die"), timeout=PATIENCE)
        beat = front.expect(Beat)
        while isinstance(beat, Beat) and not beat.lost:
            beat = front.expect(Beat)
        assert isinstance(beat, Beat)
        assert beat.lost == {"echo:1.0.0": 1}


def test_what_an_operator_asks_goes_through(front: Supervised, engine: EngineSimulator) -> None:
    front.ready()
    front.send(table(engine))
    with grpc.insecure_channel(f"unix:{front.config.unix_socket}") as channel:
        future = admin_pb2_grpc.AdminStub(channel).Status.future(admin_pb2.StatusRequest(), timeout=PATIENCE)
        ask = front.expect(Ask)
        assert isinstance(ask, Ask)
        assert ask.question == AskStatus()
        front.send(Told(ask.number, DaemonStatus(version="9")))
        assert future.result().version == "9"


@pytest.mark.parametrize(("seconds", "code"), [(0.1, grpc.StatusCode.UNAVAILABLE), (PATIENCE, None)])
def test_drain(front: Supervised, engine: EngineSimulator, seconds: float, code: grpc.StatusCode | None) -> None:
    """What runs gets its time, and is cancelled after it; then the process ends by itself."""
    address = front.ready()
    front.send(table(engine))
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request(), timeout=PATIENCE, wait_for_ready=True)
        engine.arrived.clear()
        running = stub.ModelInfer.future(request("wait"), timeout=PATIENCE)
        assert engine.arrived.wait(PATIENCE)
        front.send(Drain(seconds))
        if code is None:
            while refusal(stub) is None:
                assert running.running()
            assert refusal(stub) is grpc.StatusCode.UNAVAILABLE
            assert running.running()
            running.cancel()
        else:
            assert running.exception() is not None
            assert engine.cancelled.wait(PATIENCE)
    assert front.child.process.wait(PATIENCE) == 0


def test_it_ends_with_its_supervisor(front: Supervised) -> None:
    front.ready()
    front.child.control.close()
    assert front.child.process.wait(PATIENCE) == 0


def test_a_port_in_use_is_told(front: Supervised, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        second = Supervised(tmp_path, address=f"127.0.0.1:{taken.getsockname()[1]}")
        try:
            second.send(StartFrontEnd(second.config))
            refused = second.expect(FrontEndRefused)
            assert isinstance(refused, FrontEndRefused)
            assert "Address already in use" in refused.message
            assert second.child.process.wait(PATIENCE) == 1
        finally:
            second.end()


def test_it_stays_small(front: Supervised, engine: EngineSimulator) -> None:
    front.ready()
    front.send(table(engine))
    front.expect(Beat)
    status = Path(f"/proc/{front.child.process.pid}/status").read_text()
    kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert kib < 55 * 1024


def test_it_imports_nothing_heavy() -> None:
    code = "import appliance.serve.front_end, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "onnxruntime", "llama_cpp", "jinja2", "rich", "typer", "cryptography"}
    assert not {m.split(".")[0] for m in done.stdout.split()} & heavy
