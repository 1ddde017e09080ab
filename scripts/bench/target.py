"""One server under test: its channel, its model's inputs, and the one real call that every run begins with."""

import os
import socket
from dataclasses import dataclass

import grpc
import numpy as np

from appliance.pb.inference import grpc_service_pb2 as pb
from bench.payload import NUMPY_TYPES, InputSpec

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
METADATA = "/inference.GRPCInferenceService/ModelMetadata"
# Bounds are the server's business here; subchannels are kept apart so that two targets never share a connection.
CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


class BenchError(Exception):
    """The benchmark cannot go on; the message is for the person who started it."""


@dataclass(frozen=True)
class Target:
    """Where to send, and what for. ``address`` is host:port or unix:/path."""

    label: str
    address: str
    model: str
    version: str = ""


def open_channel(address: str) -> grpc.Channel:
    """A plaintext channel of its own connection."""
    return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)


def status_of(error: BaseException) -> tuple[str, str]:
    """The code's name and the details of a call that failed; the exception's own name and text if it has no code."""
    call: object = error  # RpcError and Call are unrelated to mypy, but what grpcio raises is both
    if isinstance(call, grpc.Call):
        return call.code().name, call.details() or ""
    return type(error).__name__, str(error)


def call_error(target: Target, what: str, error: grpc.RpcError) -> BenchError:
    """Say which call of which server failed and how."""
    return BenchError(f"{target.label} ({target.address}): {what} failed: {': '.join(status_of(error))}")


def model_inputs(target: Target, timeout_s: float) -> list[InputSpec]:
    """The model's inputs as its ModelMetadata tells them; BenchError when it does not answer or tells none."""
    with open_channel(target.address) as channel:
        call = channel.unary_unary(
            METADATA, pb.ModelMetadataRequest.SerializeToString, pb.ModelMetadataResponse.FromString
        )
        request = pb.ModelMetadataRequest(name=target.model, version=target.version)
        try:
            answer = call(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise call_error(target, f"ModelMetadata of {target.model!r}", error) from error
    if not answer.inputs:
        raise BenchError(f"{target.label}: {target.model!r} tells no inputs: give them with --input")
    return [InputSpec(one.name, one.datatype, tuple(one.shape)) for one in answer.inputs]


def first_answer(target: Target, request: bytes, timeout_s: float) -> bytes:
    """The serialised ModelInferResponse of one real call; BenchError unless it has outputs and says OK."""
    with open_channel(target.address) as channel:
        try:
            infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFER)
            answer = infer(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise call_error(target, f"the first call of {target.model!r}", error) from error
    if not pb.ModelInferResponse.FromString(answer).outputs:
        raise BenchError(f"{target.label}: the first answer of {target.model!r} has no outputs")
    return answer


def _numeric_outputs(answer: bytes) -> dict[str, np.ndarray]:
    response = pb.ModelInferResponse.FromString(answer)
    pairs = zip(response.outputs, response.raw_output_contents, strict=False)
    return {
        one.name: np.frombuffer(raw, NUMPY_TYPES[one.datatype]).astype(np.float64)
        for one, raw in pairs
        if one.datatype in NUMPY_TYPES
    }


def largest_difference(first: bytes, second: bytes) -> float | None:
    """Largest absolute difference over the numeric outputs that two answers have by the same name.

    None when they have none to compare; infinity when one has more elements than the other.
    """
    ours, theirs = _numeric_outputs(first), _numeric_outputs(second)
    common = [name for name in ours if name in theirs]
    if not common:
        return None
    if any(ours[name].size != theirs[name].size for name in common):
        return float("inf")
    return max(float(np.max(np.abs(ours[name] - theirs[name]), initial=0.0)) for name in common)


def is_reachable(address: str, timeout_s: float = 1.0) -> bool:
    """Whether something accepts connections there, so that a typo is told at once and not after a long wait."""
    if address.startswith("unix:"):
        family, where = socket.AF_UNIX, address.removeprefix("unix:")
        with socket.socket(family, socket.SOCK_STREAM) as plug:
            plug.settimeout(timeout_s)
            return plug.connect_ex(where) == 0
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
    except (OSError, ValueError):
        return False
    return True


def pin(cpus: str | None) -> None:
    """Pin this process, and what it starts, to cores such as "0" or "0,1"; BenchError when they are not there."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    except (OSError, ValueError):
        allowed = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
        raise BenchError(f"--client-cpus {cpus!r}: expected cores among {allowed}") from None
