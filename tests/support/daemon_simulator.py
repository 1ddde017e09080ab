"""A daemon for the tests of the command line: real gRPC on a unix socket (and TCP), answers out of a plain object.

It behaves as the protocol says: models that are added are listed, unknown ones are NOT_FOUND, and a test can make the
next call fail with any status.
"""

# ruff: noqa: N802  # methods have the protocol's names

import json
import struct
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc, generation_pb2, generation_pb2_grpc
from appliance.pb.inference import grpc_service_pb2, grpc_service_pb2_grpc


class World:
    """What the simulated daemon knows, what it was asked, and how its next call fails."""

    def __init__(self) -> None:
        self.ready = True
        self.missing: list[str] = []
        self.spec_json = ""
        self.profile: tuple[bytes, int] = (b"[]", 0)
        self.store_report = admin_pb2.StoreReport()
        self.garbage_report = admin_pb2.GarbageReport()
        self.sync = admin_pb2.SyncResponse()
        self.planned = admin_pb2.PlanSyncResponse()
        # What Sync answers first, one call after the other; the last one stays.
        self.answers: list[admin_pb2.SyncResponse] = []
        self.root = admin_pb2.TrustRootResponse()
        self.clock = admin_pb2.TrustClockResponse()
        self.models: dict[tuple[str, str], admin_pb2.ModelStatus] = {}
        self.inputs: dict[str, list[tuple[str, str, list[int]]]] = {}
        self.uploads: list[dict[str, bytes]] = []
        self.requests: list[Any] = []
        self.fail_with: tuple[grpc.StatusCode, str] | None = None
        self.words = ["The ", "sky ", "is ", "blü", "."]
        self.thoughts: list[str] = []
        self.tool_calls: list[generation_pb2.ToolCall] = []
        self.endless = False
        self.cut_off = False
        self.asked = threading.Event()
        self.cancelled = threading.Event()
        self.addresses = ["127.0.0.1:8001"]

    def add(self, name: str, version: str, **fields: Any) -> admin_pb2.ModelStatus:
        """A stored version."""
        status = admin_pb2.ModelStatus(name=name, version=version, **{"engine": "onnx", "state": "ready", **fields})
        self.models[name, version] = status
        return status

    def heard(self, request: Any, context: grpc.ServicerContext) -> None:
        """Notes the request, and fails if the test asked for that."""
        self.requests.append(request)
        self.asked.set()
        if self.fail_with:
            context.abort(*self.fail_with)

    def find(self, name: str, version: str, context: grpc.ServicerContext) -> admin_pb2.ModelStatus:
        """The version asked for, else the model's last."""
        for (known, known_version), status in reversed(self.models.items()):
            if known == name and version in ("", known_version):
                return status
        context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        raise AssertionError


class Admin(admin_pb2_grpc.AdminServicer):
    """The operator's service."""

    def __init__(self, world: World) -> None:
        self.world = world

    def Status(self, request, context):
        self.world.heard(request, context)
        processes = [admin_pb2.ProcessStatus(role="supervisor", pid=1000, memory_bytes=20 << 20, uptime_ms=90_061_000)]
        return admin_pb2.StatusResponse(
            version="9.9.9",
            uptime_ms=90_061_000,
            ready=self.world.ready,
            missing=self.world.missing,
            addresses=self.world.addresses,
            state_dir="/var/lib/inference-appliance",
            processes=processes,
            models=self.world.models.values(),
        )

    def ShowModel(self, request, context):
        self.world.heard(request, context)
        status = self.world.find(request.name, request.version, context)
        card = {"licence": "MIT", "source": "here", "intended_use": "tests", "limits": "[bold]none[/bold]"}
        spec = {"name": status.name, "files": [{"path": "model.onnx", "role": "model"}], "card": card, "golden": [{}]}
        spec_json = self.world.spec_json or json.dumps(spec)
        return admin_pb2.ShowModelResponse(status=status, spec_json=spec_json, added_ms=1_700_000_000_000)

    def AddModel(self, request_iterator, context):
        files: dict[str, bytes] = {}
        name = ""
        for request in request_iterator:
            part = request.WhichOneof("part")
            if part == "begin":
                self.world.heard(request.begin, context)
            elif part == "file":
                name = request.file.path
                files[name] = b""
            else:
                files[name] += request.chunk
        self.world.uploads.append(files)
        yield admin_pb2.ProgressResponse(text="loading press 1.0.0", current=1, total=2)
        yield admin_pb2.ProgressResponse(text="1 golden test(s) passed", current=2, total=2)
        yield from self._done(self.world.add("press", "1.0.0", active=not self.world.requests[-1].no_activate))

    def ActivateModel(self, request, context):
        self.world.heard(request, context)
        status = self.world.find(request.name, request.version, context)
        status.active = not request.beside
        yield admin_pb2.ProgressResponse(text="loading")
        yield from self._done(status)

    def RollbackModel(self, request, context):
        self.world.heard(request, context)
        status = self.world.find(request.name, "", context)
        status.active = True
        yield admin_pb2.ProgressResponse(text=f"{status.name} {status.version} is active")
        yield from self._done(status)

    def DeactivateModel(self, request, context):
        self.world.heard(request, context)
        self.world.find(request.name, request.version, context).state = "stored"
        yield from self._done(None)

    def RemoveModel(self, request, context):
        self.world.heard(request, context)
        self.world.find(request.name, request.version, context)
        del self.world.models[request.name, request.version]
        yield from self._done(None)

    def ProfileModel(self, request, context):
        self.world.heard(request, context)
        self.world.find(request.name, request.version, context)
        profile, runs = self.world.profile
        for start in range(0, len(profile), 100):
            yield admin_pb2.ProfileModelResponse(chunk=profile[start : start + 100])
        yield admin_pb2.ProfileModelResponse(runs=runs)

    def CheckStore(self, request, context):
        self.world.heard(request, context)
        yield admin_pb2.CheckStoreResponse(text="checking", current=1, total=2)
        yield admin_pb2.CheckStoreResponse(done=not self.world.cut_off, report=self.world.store_report)

    def RepairStore(self, request, context):
        self.world.heard(request, context)
        yield admin_pb2.RepairStoreResponse(text="checking and repairing", current=1, total=2)
        yield admin_pb2.RepairStoreResponse(done=not self.world.cut_off, report=self.world.store_report)

    def CollectGarbage(self, request, context):
        self.world.heard(request, context)
        yield admin_pb2.CollectGarbageResponse(done=not self.world.cut_off, report=self.world.garbage_report)

    def Sync(self, request, context):
        self.world.heard(request, context)
        answers = self.world.answers
        return (answers.pop(0) if len(answers) > 1 else answers[0]) if answers else self.world.sync

    def PlanSync(self, request, context):
        return self.world.planned

    def Visit(self, request, context):
        self.world.heard(request, context)
        return admin_pb2.VisitResponse(status=self.world.sync)

    def TrustRoot(self, request, context):
        self.world.heard(request, context)
        answer = admin_pb2.TrustRootResponse()
        answer.CopyFrom(self.world.root)
        answer.outcome = self.world.root.outcome if request.install else ""
        return answer

    def TrustClock(self, request, context):
        self.world.heard(request, context)
        clock = self.world.clock
        if request.reset:
            now_ms = clock.machine_ms
            clock.forgotten_ms, clock.floor_ms, clock.judged_ms = clock.floor_ms, 0, now_ms
        return clock

    def _done(self, status: admin_pb2.ModelStatus | None) -> Iterator[admin_pb2.ProgressResponse]:
        if not self.world.cut_off:
            yield admin_pb2.ProgressResponse(done=True, status=status)


class Inference(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Models that answer with their inputs, named OUT_..., as they came."""

    def __init__(self, world: World) -> None:
        self.world = world

    def ModelMetadata(self, request, context):
        status = self.world.find(request.name, request.version, context)
        platform = "llama_cpp" if status.kind == "language" else "onnxruntime_onnx"
        tensor = grpc_service_pb2.ModelMetadataResponse.TensorMetadata
        inputs = [tensor(name=n, datatype=d, shape=s) for n, d, s in self.world.inputs.get(request.name, [])]
        return grpc_service_pb2.ModelMetadataResponse(name=request.name, platform=platform, inputs=inputs)

    def ModelInfer(self, request, context):
        gone = threading.Event()
        context.add_callback(gone.set)
        self.world.heard(request, context)
        if self.world.endless:
            gone.wait()
            self.world.cancelled.set()
        answer = grpc_service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1.0.0")
        wanted = {output.name for output in request.outputs}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            name = f"OUT_{tensor.name}"
            if not wanted or name in wanted:
                answer.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
                answer.raw_output_contents.append(raw)
        return answer


class Generation(generation_pb2_grpc.GenerationServicer):
    """A model that always says the same words."""

    def __init__(self, world: World) -> None:
        self.world = world

    def Chat(self, request, context):
        self.world.heard(request, context)
        context.add_callback(lambda: None if context.code() is grpc.StatusCode.OK else self.world.cancelled.set())
        yield generation_pb2.GenerateResponse(model=request.model, version="1.0.0")
        for thought in self.world.thoughts:
            yield generation_pb2.GenerateResponse(reasoning=thought)
        for word in self.world.words:
            yield generation_pb2.GenerateResponse(text=word)
        if request.tools:
            yield generation_pb2.GenerateResponse(tool_calls=self.world.tool_calls)
        while self.world.endless and context.is_active():
            yield generation_pb2.GenerateResponse(text="more ")
        if self.world.cut_off:
            return
        yield generation_pb2.GenerateResponse(
            finished=generation_pb2.Finished(
                reason=generation_pb2.Finished.TOOL_CALLS if request.tools else generation_pb2.Finished.STOP,
                usage=generation_pb2.Usage(prompt_tokens=7, completion_tokens=5),
                seed=42,
                decode_ms=100.0,
            ),
            model=request.model,
            version="1.0.0",
        )

    def Embed(self, request, context):
        self.world.heard(request, context)
        self.world.find(request.model, request.version, context)
        rows = [generation_pb2.Embedding(values=[len(text) / 10, -0.02, 0, 1, 0.5]) for text in request.texts]
        usage = generation_pb2.Usage(prompt_tokens=len(request.texts))
        return generation_pb2.EmbedResponse(embeddings=rows, usage=usage, model=request.model, version="1.0.0")

    def Rerank(self, request, context):
        self.world.heard(request, context)
        self.world.find(request.model, request.version, context)
        usage = generation_pb2.Usage(prompt_tokens=9)
        scores = [len(text) / 10 for text in request.documents]
        return generation_pb2.RerankResponse(scores=scores, usage=usage, model=request.model, version="1.0.0")


class DaemonSimulator:
    """The running server; ``credentials`` makes its TCP port a TLS one."""

    def __init__(self, socket: Path, credentials: grpc.ServerCredentials | None = None) -> None:
        self.socket = socket
        self.world = World()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        admin_pb2_grpc.add_AdminServicer_to_server(Admin(self.world), self._server)
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Inference(self.world), self._server)
        generation_pb2_grpc.add_GenerationServicer_to_server(Generation(self.world), self._server)
        self._server.add_insecure_port(f"unix:{socket}")
        port = (
            self._server.add_secure_port("127.0.0.1:0", credentials)
            if credentials
            else self._server.add_insecure_port("127.0.0.1:0")
        )
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """Ends every call at once."""
        self._server.stop(0).wait()


def texts(raw: bytes) -> list[bytes]:
    """The elements of a BYTES tensor."""
    found = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found
