"""grpc.health.v1 for the daemon, its services and its models; reflection as grpcurl and its like use it."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from daemon_process import Daemon
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from rpc_failures import fails

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc

SECONDS = 30.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = ("inference.GRPCInferenceService", "appliance.v1.Generation")


class Watch:
    """What health says of a name, as it changes."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        self.call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name))
        self._told: queue.Queue[int | str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for response in self.call:
                self._told.put(response.status)
        except grpc.RpcError as error:
            self._told.put(error.code().name)

    def next(self) -> int | str:
        return self._told.get(timeout=SECONDS)


@pytest.fixture(scope="module")
def channel(client_daemon: Daemon) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(client_daemon.address) as made:
        yield made


@pytest.mark.parametrize("name", ["", *SERVICES, "pair", "talk", "strings"])
def test_what_is_serving(channel: grpc.Channel, name: str) -> None:
    check = health_pb2_grpc.HealthStub(channel).Check
    assert check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS).status == SERVING


def test_what_is_not_known(channel: grpc.Channel) -> None:
    with fails("NOT_FOUND", "no service or model 'nope'"):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="nope"), timeout=SECONDS)
    watch = Watch(channel, "nope")
    assert watch.next() == UNKNOWN
    watch.call.cancel()
    assert watch.next() == "CANCELLED"


def test_a_watcher_sees_a_model_come_and_go_and_the_daemon_stop(
    daemon: Daemon, fake_folder: Callable[..., str]
) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        whole, model = Watch(channel, ""), Watch(channel, "m")
        assert (whole.next(), model.next()) == (SERVING, UNKNOWN)
        daemon.cli("models", "add", str(fake_folder("m", kind="language", delay_ms=50)), "--no-activate")
        assert model.next() == NOT_SERVING
        daemon.cli("models", "activate", "m")
        assert model.next() == SERVING
        daemon.cli("models", "deactivate", "m")
        assert model.next() == NOT_SERVING
        daemon.cli("models", "activate", "m")
        assert model.next() == SERVING
        # A stream that has begun is still in hand while the daemon drains, so there is time to be told.
        request = generation_pb2.GenerateRequest(model="m", prompt="one two three four five six seven eight")
        words = generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=SECONDS)
        said = next(words).text
        daemon.process.terminate()
        assert (whole.next(), model.next()) == (NOT_SERVING, NOT_SERVING)
        assert said + "".join(word.text for word in words) == request.prompt
        assert daemon.stop() == 0


def test_reflection_over_tcp(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        *SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"
    }  # fmt: skip
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    assert {"ModelInfer", "ModelStreamInfer", "ModelConfig", "RepositoryIndex"} <= {m.name for m in service.methods}
    fields = pool.FindMessageTypeByName("inference.ModelInferRequest").fields_by_name
    assert fields["raw_input_contents"].number == 7
    chat = pool.FindServiceByName("appliance.v1.Generation").methods_by_name["Chat"]
    assert chat.server_streaming


def test_admin_is_only_on_the_unix_socket(channel: grpc.Channel, client_daemon: Daemon) -> None:
    with client_daemon.channel() as local:
        assert "appliance.v1.Admin" in ProtoReflectionDescriptorDatabase(local).get_services()
    with fails("UNIMPLEMENTED"):
        call: Any = channel.unary_unary("/appliance.v1.Admin/Status")
        call(b"", timeout=SECONDS)
