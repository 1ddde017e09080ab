"""Unmodified tritonclient.grpc programs, unary: health, metadata, tensors of every datatype, options, statistics."""

import queue
from collections.abc import Iterator

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
from client_models import DATATYPES
from daemon_process import Daemon
from rpc_failures import fails
from triton_calls import SECONDS, a_pair, given, raw, stub, texts, typed


@pytest.fixture(scope="module")
def client(client_daemon: Daemon) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(client_daemon.address) as made:
        yield made


@pytest.fixture(scope="module")
def channel(client_daemon: Daemon) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(client_daemon.address) as made:
        yield made


# --- health and metadata ---------------------------------------------------------------------------------------------


def test_health(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert client.is_model_ready("pair", "1.0.0")
    with fails("NOT_FOUND", "^Request for unknown model: 'nope'"):
        client.is_model_ready("nope")


def test_server_metadata(client: triton.InferenceServerClient) -> None:
    document = client.get_server_metadata(as_json=True)
    assert document["name"] == "inference-appliance"
    assert {"classification", "statistics", "model_repository"} <= set(document["extensions"])


def test_model_metadata(client: triton.InferenceServerClient) -> None:
    document = client.get_model_metadata("pair", as_json=True)
    assert sorted(document["versions"]) == ["1.0.0", "2.0.0"]
    assert document["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": ["2", "3"]},
        {"name": "b", "datatype": "INT64", "shape": ["-1"]},
    ]
    assert [o.name for o in client.get_model_metadata("pair").outputs] == ["out_a", "out_b"]


def test_model_config(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("strings").config
    assert (config.name, config.backend, config.max_batch_size) == ("strings", "onnxruntime", 0)
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("x", 13, [-1]), ("y", 13, [-1])]
    assert client.get_model_config("talk", as_json=True)["config"]["model_transaction_policy"]["decoupled"] is True


def test_repository_index(client: triton.InferenceServerClient) -> None:
    entries = {(m.name, m.version): m.state for m in client.get_model_repository_index().models}
    assert entries[("pair", "1.0.0")] == entries[("pair", "2.0.0")] == entries[("talk", "1.0.0")] == "READY"


def test_statistics_grow_by_what_was_sent(client: triton.InferenceServerClient) -> None:
    def counted() -> tuple[int, int, int]:
        model = client.get_inference_statistics("pair", "1.0.0").model_stats[0]
        return model.inference_count, model.inference_stats.success.count, model.inference_stats.success.ns

    inferences, successes, nanoseconds = counted()
    for _ in range(5):
        client.infer("pair", a_pair(), model_version="1.0.0")
    after = counted()
    assert after[:2] == (inferences + 5, successes + 5)
    assert after[2] > nanoseconds
    everything = client.get_inference_statistics(as_json=True)["model_stats"]
    assert {m["name"] for m in everything} >= {"echo", "pair", "talk"}


# --- tensors ---------------------------------------------------------------------------------------------------------

ARRAYS = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65_535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[1.5, -65_504.0]], np.float16),
    "BF16": np.array([[1.5, -2.0]], ml_dtypes.bfloat16),
    "FP32": np.array([[0.1, np.inf, -0.0], [np.nan, 1e-45, 3e38]], np.float32),
    "FP64": np.array([[0.1, 1e300]], np.float64),
    "BYTES": texts(b"plain", "gr\u00fc\u00df".encode(), b"\xff\x00", b"").reshape(2, 2),
}


@pytest.mark.parametrize("datatype", DATATYPES)
def test_numpy_in_and_out(client: triton.InferenceServerClient, datatype: str) -> None:
    array, name = ARRAYS[datatype], datatype.lower()
    back = client.infer("echo", [given(name, array, datatype)]).as_numpy(f"out_{name}")
    np.testing.assert_array_equal(back, array)
    assert back.shape == array.shape
    assert back.dtype == array.dtype


CONTENTS = {"BOOL": "bool", "BYTES": "bytes", "FP32": "fp32", "FP64": "fp64", "INT64": "int64", "UINT64": "uint64"}


@pytest.mark.parametrize("datatype", [d for d in DATATYPES if d not in ("FP16", "BF16")])
def test_typed_contents_give_what_raw_gives(channel: grpc.Channel, datatype: str) -> None:
    field = CONTENTS.get(datatype, "uint" if datatype.startswith("U") else "int") + "_contents"
    array, name = ARRAYS[datatype], datatype.lower()
    request = typed("echo", (name, datatype, list(array.shape), {field: array.flatten().tolist()}))
    result = triton.InferResult(stub(channel).ModelInfer(request, timeout=SECONDS))
    np.testing.assert_array_equal(result.as_numpy(f"out_{name}"), array)


def test_several_inputs_and_outputs(client: triton.InferenceServerClient) -> None:
    result = client.infer("pair", a_pair(0.5))
    assert result.as_numpy("out_a").tolist() == [[100.5] * 3] * 2
    assert result.as_numpy("out_b").tolist() == [107, 92]
    assert result.as_numpy("nope") is None


def test_a_subset_of_outputs_in_the_order_asked(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput(name) for name in ("out_b", "out_a")]
    response = client.infer("pair", a_pair(), outputs=wanted).get_response()
    assert [o.name for o in response.outputs] == ["out_b", "out_a"]
    only = client.infer("pair", a_pair(), outputs=wanted[:1])
    assert [o.name for o in only.get_response().outputs] == ["out_b"]
    assert only.as_numpy("out_b").tolist() == [107, 92]


def test_an_empty_tensor(client: triton.InferenceServerClient) -> None:
    result = client.infer("echo", [given("fp32", np.zeros((0, 4), np.float32), "FP32")])
    assert result.as_numpy("out_fp32").shape == (0, 4)


def test_classification(shared_daemon: Daemon) -> None:
    with triton.InferenceServerClient(shared_daemon.address) as client:
        rows = given("features", np.zeros((2, 30), np.float32), "FP32")
        best = triton.InferRequestedOutput("probabilities", class_count=2)
        plain = client.infer("breast-cancer", [rows]).as_numpy("probabilities")
        classes = client.infer("breast-cancer", [rows], outputs=[best]).as_numpy("probabilities")
    assert classes.shape == (2, 2)
    order = np.argsort(-plain[0], kind="stable")
    for text, index in zip(classes[0], order, strict=True):
        value, came, label = text.decode().split(":")
        assert int(came) == index
        assert float(value) == pytest.approx(plain[0][index], abs=1e-6)
        assert label in ("malignant", "benign")


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["gzip", "deflate", None])
def test_compression(client: triton.InferenceServerClient, algorithm: str | None) -> None:
    array = np.zeros((100, 1000), np.float32)
    result = client.infer("echo", [given("fp32", array, "FP32")], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("out_fp32"), array)


def test_id_priority_timeout_and_parameters_of_ones_own(client: triton.InferenceServerClient) -> None:
    result = client.infer(
        "pair",
        a_pair(),
        request_id="line 4 / 0815",
        priority=1,
        timeout=30_000_000,
        sequence_id=7,
        sequence_start=True,
        parameters={"station": "west", "attempt": 2, "dry": False, "scale": 0.5},
    )
    assert result.get_response().id == "line 4 / 0815"


@pytest.mark.parametrize(("version", "first"), [("1.0.0", 0.5), ("2.0.0", 100.5), ("", 100.5)])
def test_versions(client: triton.InferenceServerClient, version: str, first: float) -> None:
    result = client.infer("pair", a_pair(0.5), model_version=version)
    assert result.as_numpy("out_a")[0, 0] == first
    assert result.get_response().model_version == (version or "2.0.0")


def test_client_timeout(client: triton.InferenceServerClient) -> None:
    x = [given("x", np.ones(2, np.float32), "FP32")]
    with fails("DEADLINE_EXCEEDED", "Deadline Exceeded"):
        client.infer("slow", x, client_timeout=0.05)
    assert client.infer("slow", x, client_timeout=SECONDS).as_numpy("out_x").tolist() == [1, 1]


def test_the_timeout_parameter(client: triton.InferenceServerClient) -> None:
    """Microseconds."""
    x = [given("x", np.ones(2, np.float32), "FP32")]
    with fails("DEADLINE_EXCEEDED", "deadline"):
        client.infer("slow", x, timeout=1)
    assert client.infer("slow", x, timeout=20_000_000).as_numpy("out_x").tolist() == [1, 1]


def test_async_infer_calls_back(client: triton.InferenceServerClient) -> None:
    done: queue.Queue[tuple[triton.InferResult, Exception | None]] = queue.Queue()
    for number in range(8):
        client.async_infer(
            "pair", a_pair(number), callback=lambda result, error: done.put((result, error)), model_version="1.0.0"
        )
    answers = [done.get(timeout=SECONDS) for _ in range(8)]
    assert [error for _, error in answers] == [None] * 8
    assert sorted(result.as_numpy("out_a")[0, 0] for result, _ in answers) == list(range(8))


def test_a_cancelled_call(client: triton.InferenceServerClient) -> None:
    """What is cancelled while it waits is not computed: at most one step passes before the engine sees who has gone."""

    def computed() -> int:
        return int(client.get_inference_statistics("slow").model_stats[0].execution_count)

    x = [given("x", np.ones(2, np.float32), "FP32")]
    done: queue.Queue[Exception] = queue.Queue()
    before = computed()
    calls = [client.async_infer("slow", x, callback=lambda result, error: done.put(error)) for _ in range(6)]
    for call in calls:
        call.cancel()
        assert done.get(timeout=SECONDS).status() == "StatusCode.CANCELLED"  # type: ignore[attr-defined]  # tritonclient's
    assert client.infer("slow", x).as_numpy("out_x").tolist() == [1, 1]
    running, unseen, good = 1, 1, 1
    assert computed() <= before + running + unseen + good


def test_a_decoupled_model_is_not_for_unary_calls(client: triton.InferenceServerClient) -> None:
    with fails("UNIMPLEMENTED", "doesn't support models with decoupled transaction policy", "'talk'"):
        client.infer("talk", [given("text_input", texts(b"hello"), "BYTES")])


@pytest.mark.parametrize("call", ["SystemSharedMemoryStatus", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings"])
def test_what_is_not_offered_says_so(client: triton.InferenceServerClient, call: str) -> None:
    ask = {
        "SystemSharedMemoryStatus": client.get_system_shared_memory_status,
        "CudaSharedMemoryStatus": client.get_cuda_shared_memory_status,
        "TraceSetting": client.get_trace_settings,
        "LogSettings": client.get_log_settings,
    }[call]
    with fails("UNIMPLEMENTED", "shared memory|trace|log"):
        ask()


# --- the repository --------------------------------------------------------------------------------------------------


def test_unload_and_load(client: triton.InferenceServerClient, client_daemon: Daemon) -> None:
    client.unload_model("strings")
    with fails("UNAVAILABLE", "'strings'"):
        client.infer("strings", [given("x", texts(b"a"), "BYTES"), given("y", texts(b"b"), "BYTES")])
    index = {m.name: m for m in client.get_model_repository_index().models}
    assert (index["strings"].state, index["strings"].reason) == ("UNAVAILABLE", "unloaded")
    client.load_model("strings")
    assert client.is_model_ready("strings")
    result = client.infer("strings", [given("x", texts(b"a"), "BYTES"), given("y", texts(b"b"), "BYTES")])
    assert result.as_numpy("joined").tolist() == [b"ab"]
    with fails("NOT_FOUND", "nope"):
        client.load_model("nope")
    with fails("NOT_FOUND", "nope"):
        client.unload_model("nope")
    with fails("INVALID_ARGUMENT|UNIMPLEMENTED", "config"):
        client.load_model("strings", config="{}")


def test_raw_contents_by_hand(channel: grpc.Channel) -> None:
    request = raw("echo", ("bytes", "BYTES", [1, 2], b"\x01\0\0\0a\0\0\0\0"), id="9")
    response = stub(channel).ModelInfer(request, timeout=SECONDS)
    assert response.raw_output_contents[0] == b"\x01\0\0\0a\0\0\0\0"
    assert (response.id, response.model_name, response.model_version) == ("9", "echo", "1.0.0")
