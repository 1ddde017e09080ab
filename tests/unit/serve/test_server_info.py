"""Everything of the inference service but inference, and health and reflection."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from engine_simulator import ECHO
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from serve_rig import Rig

import appliance
from appliance.control import Route
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.pb.inference import model_config_pb2
from appliance.questions import AskActivate, AskDeactivate, Refusal
from appliance.types import ModelState

PATIENCE = 20
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(threads=16) as rig:
        yield rig


@pytest.fixture
def stub(rig: Rig) -> pb_grpc.GRPCInferenceServiceStub:
    return pb_grpc.GRPCInferenceServiceStub(rig.channel)


def failure(call: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=PATIENCE)
    return caught.value.code().name, caught.value.details()


def test_server(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    metadata = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (metadata.name, metadata.version) == ("inference-appliance", appliance.__version__)
    rig.apply(ready=False)
    assert not stub.ServerReady(pb.ServerReadyRequest()).ready


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("echo", "", True),
        ("echo", "1.0.0", True),
        ("echo", "0.9.0", False),
        ("broken", "", False),
        ("coming", "", False),
    ],
)
def test_model_ready(stub: pb_grpc.GRPCInferenceServiceStub, name: str, version: str, ready: bool) -> None:
    assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready is ready


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ModelReady", pb.ModelReadyRequest(name="nope")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="nope")),
        ("ModelConfig", pb.ModelConfigRequest(name="echo", version="7")),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="nope")),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="echo", version="7")),
    ],
)
def test_unknown_models(stub: pb_grpc.GRPCInferenceServiceStub, method: str, request_: Any) -> None:
    code, words = failure(getattr(stub, method), request_)
    assert code == "NOT_FOUND"
    assert words.startswith("Request for unknown model")


def test_metadata_and_config(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="echo"))
    assert list(metadata.versions) == ["1.0.0"]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("x", "FP32", [-1, 3]),
        ("s", "BYTES", [-1]),
    ]
    config = stub.ModelConfig(pb.ModelConfigRequest(name="echo")).config
    assert config.max_batch_size == 0
    assert [(i.name, i.data_type, list(i.dims), i.optional) for i in config.input] == [
        ("x", model_config_pb2.TYPE_FP32, [-1, 3], False),
        ("s", model_config_pb2.TYPE_STRING, [-1], True),
    ]
    assert stub.ModelConfig(pb.ModelConfigRequest(name="text")).config.model_transaction_policy.decoupled
    assert failure(stub.ModelMetadata, pb.ModelMetadataRequest(name="coming"))[0] == "UNAVAILABLE"


def test_statistics_come_from_the_engine(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    stats = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    by_name = {(s.name, s.version): s for s in stats}
    assert len(by_name) == 5
    assert by_name["echo", "1.0.0"].inference_stats.success.count == 3
    assert by_name["echo", "1.0.0"].inference_stats.success.ns == 30
    assert by_name["echo", "1.0.0"].inference_count == 4
    assert by_name["echo", "0.9.0"].inference_stats.success.count == 0
    assert len(stub.ModelStatistics(pb.ModelStatisticsRequest(name="echo")).model_stats) == 2


def test_repository_index(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    models = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    assert {(m.name, m.version): (m.state, m.reason) for m in models} == {
        ("broken", "1.0.0"): ("UNAVAILABLE", "quarantined: it died 6 times"),
        ("coming", "1.0.0"): ("LOADING", ""),
        ("echo", "1.0.0"): ("READY", ""),
        ("echo", "0.9.0"): ("UNAVAILABLE", "unloaded"),
        ("text", "1.0.0"): ("READY", ""),
    }
    ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
    assert [m.name for m in ready] == ["echo", "text"]
    assert failure(stub.RepositoryIndex, pb.RepositoryIndexRequest(repository_name="other"))[0] == "NOT_FOUND"


def test_load_and_unload(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    load = pb.RepositoryModelLoadRequest(model_name="echo")
    load.parameters["version"].string_param = "0.9.0"
    stub.RepositoryModelLoad(load)
    unload = pb.RepositoryModelUnloadRequest(model_name="echo")
    unload.parameters["unload_dependents"].bool_param = False
    stub.RepositoryModelUnload(unload)
    assert rig.supervisor.asked == [AskActivate("echo", "0.9.0"), AskDeactivate("echo", "")]
    rig.supervisor.answers[AskActivate] = [Refusal("NOT_FOUND", "VERSION_UNKNOWN", "there is no such version")]
    assert failure(stub.RepositoryModelLoad, load) == ("NOT_FOUND", "there is no such version")
    load.parameters["config"].string_param = "{}"
    code, words = failure(stub.RepositoryModelLoad, load)
    assert (code, "'config' is not supported" in words) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()),
        ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest()),
        ("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest()),
        ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()),
        ("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest()),
        ("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest()),
        ("TraceSetting", pb.TraceSettingRequest()),
        ("LogSettings", pb.LogSettingsRequest()),
    ],
)
def test_what_is_not_built_says_so(stub: pb_grpc.GRPCInferenceServiceStub, method: str, request_: Any) -> None:
    code, words = failure(getattr(stub, method), request_)
    assert code == "UNIMPLEMENTED"
    assert "this server" in words or "configuration" in words


# --- draining and the gate -------------------------------------------------------------------------------------------


def test_draining_refuses_new_calls_and_health_answers_on(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    rig.readiness.drain()
    rig.gate.close()
    code, words = failure(stub.ServerReady, pb.ServerReadyRequest())
    assert (code, "stopping" in words) == ("UNAVAILABLE", True)
    health = health_pb2_grpc.HealthStub(rig.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
    assert health.Check(health_pb2.HealthCheckRequest(service="echo")).status == NOT_SERVING
    assert rig.gate.wait_empty(0)


def test_streams_are_bounded(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    for _ in range(8):
        rig.gate.enter_stream()
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ModelStreamInfer(iter([]), timeout=PATIENCE))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "8 open streams" in caught.value.details()


def test_the_last_threads_only_refuse(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    for _ in range(12):
        rig.gate.enter()
    code, words = failure(stub.ServerLive, pb.ServerLiveRequest())
    assert (code, "12 calls in hand" in words) == ("RESOURCE_EXHAUSTED", True)
    rig.gate.leave()
    assert stub.ServerLive(pb.ServerLiveRequest()).live


# --- health and reflection -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "status"),
    [
        ("", SERVING),
        ("inference.GRPCInferenceService", SERVING),
        ("appliance.v1.Generation", SERVING),
        ("echo", SERVING),
        ("broken", NOT_SERVING),
        ("coming", NOT_SERVING),
    ],
)
def test_health(rig: Rig, service: str, status: int) -> None:
    health = health_pb2_grpc.HealthStub(rig.channel)
    assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE).status == status


def test_health_of_nothing(rig: Rig) -> None:
    health = health_pb2_grpc.HealthStub(rig.channel)
    assert failure(health.Check, health_pb2.HealthCheckRequest(service="nope"))[0] == "NOT_FOUND"


def test_watchers_see_each_change_and_hold_no_thread(rig: Rig) -> None:
    health = health_pb2_grpc.HealthStub(rig.channel)
    extra = [health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE) for _ in range(40)]
    for watch in extra:
        assert next(watch).status == SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(service="late"), timeout=PATIENCE)
    assert next(watch).status == SERVICE_UNKNOWN
    late = Route("late", "1.0.0", ModelState.LOADING, True)
    rig.apply(late)
    assert next(watch).status == NOT_SERVING
    rig.apply(Route("late", "1.0.0", ModelState.READY, True, rig.echo.path, ECHO))
    assert next(watch).status == SERVING
    rig.readiness.drain()
    assert next(watch).status == NOT_SERVING
    assert next(extra[0]).status == NOT_SERVING


def listed(channel: grpc.Channel) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    response = next(stub.ServerReflectionInfo(iter([request]), timeout=PATIENCE))
    return {service.name for service in response.list_services_response.service}


def test_reflection_and_who_sees_admin(rig: Rig) -> None:
    common = {
        "inference.GRPCInferenceService",
        "appliance.v1.Generation",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert listed(rig.channel) == common
    assert listed(rig.admin) == common | {"appliance.v1.Admin"}
