"""Puts scripts/ on the path, as the thin entries do, and a small inference server on loopback."""

import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from bench_simulators import BATCHED_BENCH, LLAMA_SERVER, TalkingServer, serve, write_program

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc


class EchoServer(pb_grpc.GRPCInferenceServiceServicer):
    """Answers with its inputs, twice over in a stream if ``parts`` is 2; every ``fail_every``-th call fails."""

    def __init__(self) -> None:
        self.address = ""
        self.calls = 0
        self.ok = 0
        self.fail_every = 0
        self.stall_call = 0
        self.stall_s = 0.3
        self.parts = 1
        self.growing = False
        self.stall = threading.Event()
        self._lock = threading.Lock()

    def _count(self) -> tuple[int, bool]:
        with self._lock:
            self.calls += 1
            failed = bool(self.fail_every) and self.calls % self.fail_every == 0
            self.ok += not failed
            return self.calls, failed

    def _answer(self, request: pb.ModelInferRequest, number: int) -> pb.ModelInferResponse:
        answer = pb.ModelInferResponse(model_name=request.model_name, raw_output_contents=request.raw_input_contents)
        if self.growing:
            answer.id = "x" * (number % 7)
        for one in request.inputs:
            answer.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        return answer

    def ModelMetadata(  # noqa: N802 - generated base class
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        if request.name != "echo":
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model {request.name!r}")
        answer = pb.ModelMetadataResponse(name=request.name)
        answer.inputs.add(name="x", datatype="FP32", shape=[-1, 30])
        return answer

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:  # noqa: N802 - generated base class
        number, failed = self._count()
        if number == self.stall_call:
            self.stall.wait(self.stall_s)
        if failed:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return self._answer(request, number)

    def ModelStreamInfer(  # noqa: N802 - generated base class
        self, request_iterator: Iterator[pb.ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ModelStreamInferResponse]:
        for request in request_iterator:
            number, failed = self._count()
            if failed:
                yield pb.ModelStreamInferResponse(error_message="full")
                continue
            for part in range(1, self.parts + 1):
                answer = self._answer(request, number)
                answer.parameters["triton_final_response"].bool_param = part == self.parts
                yield pb.ModelStreamInferResponse(infer_response=answer)


@pytest.fixture
def echo(request: pytest.FixtureRequest) -> Iterator[EchoServer]:
    """A running server; its ``address`` is host:port. An indirect parameter is its number of threads."""
    servicer = EchoServer()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=getattr(request, "param", 8)))
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None).wait(10)


@pytest.fixture
def talking(tmp_path: Path) -> Iterator[TalkingServer]:
    """A language model's server on loopback and on a unix socket, s.sock."""
    servicer = TalkingServer()
    server = serve(servicer, f"unix:{tmp_path}/s.sock")
    yield servicer
    server.stop(None).wait(10)


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, Path]:
    """What plays llama.cpp's programs, and a file for --gguf."""
    (tmp_path / "a.gguf").touch()
    return {
        "llama-server": write_program(tmp_path / "llama-server", LLAMA_SERVER),
        "llama-batched-bench": write_program(tmp_path / "llama-batched-bench", BATCHED_BENCH),
        "gguf": tmp_path / "a.gguf",
    }
