"""Shared memory over gRPC: a front-end's servers, engines simulated, the supervisor's list played by the test."""

import os
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from serve_rig import Rig
from shared_files import SharedFile, shared_file

from appliance import limits
from appliance.config import ServerConfig
from appliance.control import RegionTable
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.questions import AskRegister, AskUnregister, RegionEntry

DEADLINE = 10.0


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(ServerConfig(address="127.0.0.1:0", shared_memory=True)) as made:
        yield made


@pytest.fixture
def stub(rig: Rig) -> pb_grpc.GRPCInferenceServiceStub:
    return pb_grpc.GRPCInferenceServiceStub(rig.channel)


@pytest.fixture
def file() -> Iterator[SharedFile]:
    with shared_file(bytes(range(240))) as made:
        yield made


def know(rig: Rig, *entries: RegionEntry) -> None:
    rig.servers.shared.apply(RegionTable(1, entries))


def failure(call: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=DEADLINE)
    return caught.value.code().name, caught.value.details()


def place(tensor: Any, offset: int = 0, nbytes: int = 12, region: str = "r") -> None:
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = nbytes
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset


def request(offset: int = 0, output: int | None = None, rows: int = 1, **more: Any) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="echo", id="7")
    place(made.inputs.add(name="x", datatype="FP32", shape=[rows, 3]), offset, 12 * rows, **more)
    if output is not None:
        place(made.outputs.add(name="x"), output, 12 * rows, **more)
    return made


def test_what_is_registered_goes_to_the_supervisor(rig: Rig, stub: Any, file: SharedFile) -> None:
    asked = pb.SystemSharedMemoryRegisterRequest(name="r", key=file.key, offset=10, byte_size=200)
    stub.SystemSharedMemoryRegister(asked)
    assert rig.supervisor.asked == [AskRegister(file.entry("r", 10, 200))]
    know(rig, file.entry("r", 10, 200), file.entry("all"))
    regions = stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest()).regions
    assert {n: (r.name, r.key, r.offset, r.byte_size) for n, r in regions.items()} == {
        "r": ("r", file.key, 10, 200),
        "all": ("all", file.key, 0, 240),
    }
    one = stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="all")).regions
    assert list(one) == ["all"]
    assert failure(stub.SystemSharedMemoryStatus, pb.SystemSharedMemoryStatusRequest(name="nobody"))[0] == "NOT_FOUND"
    assert failure(stub.SystemSharedMemoryRegister, asked)[0] == "ALREADY_EXISTS"
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="r"))
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
    assert rig.supervisor.asked[1:] == [AskUnregister("r"), AskUnregister("")]


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"name": ""}, "INVALID_ARGUMENT", "has 1 to 256 characters"),
        ({"name": "x" * 257}, "INVALID_ARGUMENT", "has 1 to 256 characters"),
        ({"key": ""}, "INVALID_ARGUMENT", "no key of shared memory"),
        ({"key": "/../../etc/passwd"}, "INVALID_ARGUMENT", "no key of shared memory"),
        ({"key": "/nobody-made-this"}, "NOT_FOUND", "no shared memory with the key"),
        ({"byte_size": 0}, "INVALID_ARGUMENT", "which has 240 bytes"),
        ({"byte_size": 241}, "INVALID_ARGUMENT", "which has 240 bytes"),
        ({"offset": 240}, "INVALID_ARGUMENT", "which has 240 bytes"),
        ({"offset": 2**64 - 1, "byte_size": 2}, "INVALID_ARGUMENT", "which has 240 bytes"),
        ({"offset": 1, "byte_size": 2**64 - 1}, "INVALID_ARGUMENT", "which has 240 bytes"),
    ],
)
def test_what_cannot_be_registered(
    rig: Rig, stub: Any, file: SharedFile, changed: dict[str, Any], code: str, words: str
) -> None:
    asked = pb.SystemSharedMemoryRegisterRequest(**{"name": "r", "key": file.key, "byte_size": 10, **changed})
    got = failure(stub.SystemSharedMemoryRegister, asked)
    assert (got[0], words in got[1]) == (code, True), got
    assert rig.supervisor.asked == []


def test_tensors_in_and_out(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry("r", offset=40))
    response = stub.ModelInfer(request(4, 100), timeout=DEADLINE)
    assert file.read(12, 140) == bytes(range(44, 56))
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("x", "FP32", [1, 3])
    assert output.parameters["shared_memory_region"].string_param == "r"
    assert output.parameters["shared_memory_byte_size"].int64_param == 12
    assert output.parameters["shared_memory_offset"].int64_param == 100
    assert list(response.raw_output_contents) == [b""]


def test_one_tensor_there_and_one_in_the_request(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry())
    asked = request(12)
    asked.inputs.add(name="s", datatype="BYTES", shape=[1])
    asked.raw_input_contents.append(b"\2\0\0\0hi")
    asked.outputs.add(name="s")
    place(asked.outputs.add(name="x"), 100)
    response = stub.ModelInfer(asked, timeout=DEADLINE)
    # The engine's own order; contents have the places of their outputs.
    raw = {o.name: data for o, data in zip(response.outputs, response.raw_output_contents, strict=True)}
    assert raw == {"x": b"", "s": b"\2\0\0\0hi"}
    assert file.read(12, 100) == bytes(range(12, 24))


def test_a_stream_takes_them_as_well(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry())
    asked = [request(0, 100), request(230, 100), request(24, 112)]
    got = list(stub.ModelStreamInfer(iter(asked), timeout=DEADLINE))
    assert [bool(r.error_message) for r in got] == [False, True, False]
    assert "'r', which has 240 bytes" in got[1].error_message
    assert file.read(24, 100) == bytes(range(12)) + bytes(range(24, 36))


def large(file: SharedFile) -> pb.ModelInferRequest:
    """A request whose message is large as well."""
    asked = request()
    asked.inputs.add(name="s", datatype="BYTES", shape=[1])
    text = b"t" * 2 * limits.arena_threshold_bytes
    asked.raw_input_contents.append(len(text).to_bytes(4, "little") + text)
    return asked


def test_large_tensors_beside_it(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry())
    asked = large(file)
    for _ in range(3):
        response = stub.ModelInfer(asked, timeout=DEADLINE)
        assert list(response.raw_output_contents) == [bytes(range(12)), asked.raw_input_contents[0]]
    assert [s.region for s in rig.echo.shared] == [1, 0]


@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        (request(region="nobody"), "NOT_FOUND", "Unable to find shared memory region: 'nobody'"),
        (request(229), "INVALID_ARGUMENT", "12 bytes at offset 229 of shared memory region 'r', which has 240"),
        (request(2**62), "INVALID_ARGUMENT", "which has 240 bytes"),
        (request(0, 229), "INVALID_ARGUMENT", "output 'x' is to have 12 bytes at offset 229"),
        (request(-1), "INVALID_ARGUMENT", "'shared_memory_offset' of input 'x'"),
        (request(0, 11), "INVALID_ARGUMENT", "input 'x' and output 'x' of this request overlap"),
    ],
)
def test_bad_places(rig: Rig, stub: Any, file: SharedFile, made: pb.ModelInferRequest, code: str, words: str) -> None:
    know(rig, file.entry())
    got = failure(stub.ModelInfer, made)
    assert (got[0], words in got[1]) == (code, True), got
    assert rig.echo.calls == []


def test_overlaps_are_found_behind_other_names(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry("r"), file.entry("other", offset=6))
    asked = request(0)
    place(asked.outputs.add(name="x"), 5, 12, "other")
    assert "overlap in shared memory" in failure(stub.ModelInfer, asked)[1]
    # Overlapping registrations themselves are fine, and so are inputs that share bytes.
    asked.outputs[0].parameters["shared_memory_offset"].int64_param = 6
    stub.ModelInfer(asked, timeout=DEADLINE)


def test_the_wrong_number_of_bytes(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry())
    asked = request()
    asked.inputs[0].parameters["shared_memory_byte_size"].int64_param = 16
    assert failure(stub.ModelInfer, asked) == (
        "INVALID_ARGUMENT",
        "input 'x' of model 'echo' holds 16 bytes, expected 12 for FP32 [1, 3]",
    )
    asked = request(0, 100)
    asked.outputs[0].parameters["shared_memory_byte_size"].int64_param = 8
    code, words = failure(stub.ModelInfer, asked)
    assert (code, "output 'x' has 12 bytes, the request gives it 8" in words) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize("also", ["raw", "typed"])
def test_contents_in_two_places(rig: Rig, stub: Any, file: SharedFile, also: str) -> None:
    know(rig, file.entry())
    asked = request()
    if also == "raw":
        asked.raw_input_contents.append(bytes(12))
    else:
        asked.inputs[0].contents.fp32_contents.extend([1, 2, 3])
    code, words = failure(stub.ModelInfer, asked)
    assert (code, "shared memory" in words) == ("INVALID_ARGUMENT", True), words


def test_a_file_that_shrinks_and_comes_back(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry())
    stub.ModelInfer(request(0, 100), timeout=DEADLINE)
    file.shrink(50)
    code, words = failure(stub.ModelInfer, request(100))
    assert (code, "input 'x'" in words, "'r', which has shrunk" in words) == ("FAILED_PRECONDITION", True, True)
    assert failure(stub.ModelInfer, request(0, 100))[0] == "FAILED_PRECONDITION"
    stub.ModelInfer(request(0, 20), timeout=DEADLINE)
    os.ftruncate(file.fd, 240)
    stub.ModelInfer(request(0, 100), timeout=DEADLINE)


def test_a_file_without_a_name_is_good_until_it_is_unregistered(rig: Rig, stub: Any, file: SharedFile) -> None:
    entry = file.entry()
    know(rig, entry)
    file.unlink()
    stub.ModelInfer(request(0, 100), timeout=DEADLINE)
    know(rig, entry)
    stub.ModelInfer(request(0, 100), timeout=DEADLINE)
    know(rig)
    assert failure(stub.ModelInfer, request())[0] == "NOT_FOUND"
    # As in a front-end that starts now: the list has it, the file is gone.
    know(rig, entry)
    code, words = failure(stub.ModelInfer, request())
    assert (code, "unregister the region and register it again" in words) == ("FAILED_PRECONDITION", True)


def test_the_same_name_for_another_file(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry())
    stub.ModelInfer(request(0, 100), timeout=DEADLINE)
    with shared_file(b"z" * 240) as other:
        know(rig, other.entry())
        stub.ModelInfer(request(0, 100), timeout=DEADLINE)
        assert other.read(12, 100) == b"z" * 12
        assert file.read(12, 100) == bytes(range(12))
        # Only the test itself has the first file open still: front-end and engine (both in this process) let go of it.
        deadline = time.monotonic() + DEADLINE
        while [_target(n) for n in os.listdir("/proc/self/fd")].count(file.path) > 1:
            assert time.monotonic() < deadline


def _target(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""


def test_language_models_take_no_tensors_from_there(rig: Rig, stub: Any, file: SharedFile) -> None:
    know(rig, file.entry())
    asked = pb.ModelInferRequest(model_name="text")
    place(asked.inputs.add(name="text_input", datatype="BYTES", shape=[1]))
    (got,) = stub.ModelStreamInfer(iter([asked]), timeout=DEADLINE)
    assert "only for models of tensors" in got.error_message


def test_the_extension_is_told(rig: Rig, stub: Any) -> None:
    assert "system_shared_memory" in stub.ServerMetadata(pb.ServerMetadataRequest()).extensions


@pytest.mark.parametrize("call", ["Status", "Register", "Unregister"])
def test_it_is_off_unless_the_operator_says_so(call: str) -> None:
    with Rig() as rig:
        stub = pb_grpc.GRPCInferenceServiceStub(rig.channel)
        asked = getattr(pb, f"SystemSharedMemory{call}Request")()
        code, words = failure(getattr(stub, f"SystemSharedMemory{call}"), asked)
        assert (code, "server.shared_memory = true" in words) == ("UNIMPLEMENTED", True)
        code, words = failure(stub.ModelInfer, request())
        assert (code, "server.shared_memory = true" in words) == ("UNIMPLEMENTED", True)
        assert "system_shared_memory" not in stub.ServerMetadata(pb.ServerMetadataRequest()).extensions
