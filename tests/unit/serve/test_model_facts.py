"""What ModelConfig and Admin tell of labels, units, thresholds and sequences; and who an engine hears that asks."""

import json
import struct
from collections.abc import Iterator

import pytest
from serve_rig import Rig

from appliance import limits
from appliance.calls import InferCall
from appliance.control import Route
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.questions import VersionStatus
from appliance.serve import admin_convert, model_info
from appliance.types import EngineStats, ModelKind, ModelSignature, ModelState, TensorSpec

LABELS = ("scratch", "a, b", "d\u00e9faut")
SIGNATURE = ModelSignature(
    ModelKind.TENSOR,
    "onnxruntime_onnx",
    (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("h", "FP32", (-1, 4), optional=True)),
    (
        TensorSpec("y", "FP32", (-1, 3), False, LABELS, "probability", 0.5, "which defect", "labels.txt"),
        TensorSpec("t", "FP32", (-1, 1), threshold=0.0),
        TensorSpec("z", "INT64", (-1,)),
    ),
    sequences=True,
)


def test_model_config() -> None:
    config = model_info.config(Route("press", "1.0.0", ModelState.READY, True, "sock", SIGNATURE))
    assert [output.label_filename for output in config.output] == ["labels.txt", "", ""]
    assert [i.optional for i in config.input] == [False, True]
    facts = {key: parameter.string_value for key, parameter in config.parameters.items()}
    assert json.loads(facts.pop("output.y.labels")) == list(LABELS)
    assert facts == {
        "sequences": "true",
        "output.y.unit": "probability",
        "output.y.threshold": "0.5",
        "output.y.description": "which defect",
        "output.t.threshold": "0.0",
    }


def test_more_labels_than_an_answer_should_carry_are_left_out() -> None:
    labels = ("x" * 1024,) * (limits.shown_labels_bytes_max // 1024)
    signature = ModelSignature(ModelKind.TENSOR, "p", (), (TensorSpec("y", "FP32", (-1,), labels=labels),))
    assert not model_info.config(Route("m", "1.0.0", ModelState.READY, True, "sock", signature)).parameters


def test_admin() -> None:
    stats = EngineStats(sequences=2, sequences_expired=1, sequence_bytes=64)
    status = VersionStatus("press", "1.0.0", "onnx", ModelState.READY, True, stats=stats, signature=SIGNATURE)
    message = admin_convert.model_status(status)
    y, t, z = message.outputs
    assert (list(y.labels), y.unit, y.threshold, y.description) == ([*LABELS], "probability", 0.5, "which defect")
    assert t.HasField("threshold")
    assert not z.HasField("threshold")
    assert [i.optional for i in message.inputs] == [False, True]
    counters = message.counters
    assert (counters.sequences, counters.sequences_expired, counters.sequence_bytes) == (2, 1, 64)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


def request(**parameters: int | str | bool) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="echo")
    made.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    made.raw_input_contents.append(struct.pack("<3f", 1, 2, 3))
    for key, value in parameters.items():
        kind = "bool_param" if isinstance(value, bool) else "int64_param" if isinstance(value, int) else "string_param"
        setattr(made.parameters[key], kind, value)
    return made


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("parameters", "local", "client"),
    [
        ({"sequence_id": 7, "sequence_start": True}, False, "ipv4:127.0.0.1"),
        ({"sequence_id": "a"}, True, "local"),
        ({"station": "west"}, False, ""),
        ({}, True, ""),
    ],
)
def test_an_engine_is_told_who_asks_when_there_is_a_sequence(
    rig: Rig, stream: bool, parameters: dict[str, int | str | bool], local: bool, client: str
) -> None:
    stub = pb_grpc.GRPCInferenceServiceStub(rig.admin if local else rig.channel)
    if stream:
        (answer,) = stub.ModelStreamInfer(iter([request(**parameters)]), timeout=20)
        assert not answer.error_message
    else:
        stub.ModelInfer(request(**parameters), timeout=20)
    call = rig.echo.calls[-1]
    assert isinstance(call, InferCall)
    assert call.client == client
    assert call.parameters == parameters
