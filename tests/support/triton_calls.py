"""Short words for what the tests ask through tritonclient, unmodified.

tritonclient registers the protobuf package `inference`, as appliance.pb.inference does: a process can hold only one of
the two, so nothing that is imported beside this may import the other.
"""

from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

SECONDS = 30.0


def given(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    """An input tensor from numpy."""
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def texts(*elements: bytes) -> np.ndarray:
    """A vector for a BYTES tensor."""
    return np.array(elements, dtype=np.object_)


def prompt(text: str) -> triton.InferInput:
    return given("text_input", texts(text.encode()), "BYTES")


def a_pair(first: float = 0.5) -> list[triton.InferInput]:
    """What the model "pair" takes (client_models.py)."""
    a = np.full((2, 3), first, np.float32)
    return [given("a", a, "FP32"), given("b", np.array([7, -8], np.int64), "INT64")]


def typed(
    model: str, *tensors: tuple[str, str, list[int], dict[str, Any]], **more: Any
) -> service_pb2.ModelInferRequest:
    """A request with typed contents: each tensor is (name, datatype, shape, {contents field: values})."""
    request = service_pb2.ModelInferRequest(model_name=model, **more)
    for name, datatype, shape, contents in tensors:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        for field, values in contents.items():
            getattr(tensor.contents, field).extend(values)
    return request


def raw(model: str, *tensors: tuple[str, str, list[int], bytes], **more: Any) -> service_pb2.ModelInferRequest:
    """A request with raw contents: each tensor is (name, datatype, shape, bytes)."""
    request = service_pb2.ModelInferRequest(model_name=model, **more)
    for name, datatype, shape, data in tensors:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
    return request


def stub(channel: grpc.Channel) -> service_pb2_grpc.GRPCInferenceServiceStub:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)
