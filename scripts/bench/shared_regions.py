"""System shared memory as tritonclient uses it: an input's and an output's region in /dev/shm, registered by name."""

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from bench.payload import InputSpec, raw_bytes
from bench.target import BenchError, Target, open_channel, status_of

FOLDER = Path("/dev/shm")


class NotOffered(Exception):
    """The server has no shared memory, or has it switched off; the message is its own."""


@dataclass(frozen=True)
class Pair:
    """One client's two regions, and the request that makes the server read one and write the other."""

    request: bytes
    data_in: mmap.mmap
    data_out: mmap.mmap

    def clear(self) -> None:
        """Forget the answer."""
        self.data_out[:] = bytes(len(self.data_out))

    def is_answered(self) -> bool:
        """Whether the model, which gives its input back, has written the answer."""
        return self.data_out[:] == self.data_in[:]


def request_for(model: str, spec: InputSpec, output: str, region_in: str, region_out: str, nbytes: int) -> bytes:
    """A ModelInferRequest without a tensor's byte in it."""
    request = pb.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    wanted = request.outputs.add(name=output)
    for one, region in ((tensor, region_in), (wanted, region_out)):
        one.parameters["shared_memory_region"].string_param = region
        one.parameters["shared_memory_byte_size"].int64_param = nbytes
    return request.SerializeToString()


def _make(name: str, nbytes: int, files: contextlib.ExitStack) -> mmap.mmap:
    path = FOLDER / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o660)
    files.callback(path.unlink, missing_ok=True)
    try:
        os.ftruncate(descriptor, nbytes)
        return files.enter_context(contextlib.closing(mmap.mmap(descriptor, nbytes)))
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def pairs(target: Target, spec: InputSpec, output: str, count: int, timeout_s: float) -> Iterator[list[Pair]]:
    """So many clients' regions while the block lasts; NotOffered when the server doesn't take any."""
    data = raw_bytes(spec)
    with contextlib.ExitStack() as files:
        channel = files.enter_context(open_channel(target.address))
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        found = []
        for number in range(count):
            names = [f"bench-tensors-{os.getpid()}-{target.label}-{number}-{way}" for way in ("in", "out")]
            maps = [_make(name, len(data), files) for name in names]
            maps[0][:] = data
            for name in names:
                _register(stub, target, name, len(data), timeout_s)
                # Before the file goes: the server must not be left with a region that has vanished.
                files.callback(_unregister, stub, name, timeout_s)
            request = request_for(target.model, spec, output, names[0], names[1], len(data))
            found.append(Pair(request, maps[0], maps[1]))
        yield found


def _register(stub: pb_grpc.GRPCInferenceServiceStub, target: Target, name: str, nbytes: int, timeout_s: float) -> None:
    request = pb.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=nbytes)
    try:
        stub.SystemSharedMemoryRegister(request, timeout=timeout_s)
    except grpc.RpcError as error:
        code, details = status_of(error)
        if code == "UNIMPLEMENTED":
            raise NotOffered(details) from error
        raise BenchError(f"{target.label}: SystemSharedMemoryRegister failed: {code}: {details}") from error


def _unregister(stub: pb_grpc.GRPCInferenceServiceStub, name: str, timeout_s: float) -> None:
    with contextlib.suppress(grpc.RpcError):
        stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name=name), timeout=timeout_s)
