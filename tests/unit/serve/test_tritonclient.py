"""Unmodified tritonclient, sync and asyncio, in a process of its own (see test_protos_fresh.py for why)."""

import subprocess
import sys
from pathlib import Path

import pytest
from serve_rig import Rig

_COMMON = """
import sys
import numpy as np
from tritonclient.utils import InferenceServerException
address = sys.argv[1]
x = np.arange(6, dtype=np.float32).reshape(2, 3)
"""

_SYNC = (
    _COMMON
    + """
import queue
import tritonclient.grpc as triton

client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("echo")
assert client.get_server_metadata().name == "inference-appliance"
assert client.get_model_metadata("echo", as_json=True)["inputs"][0]["shape"] == ["-1", "3"]
assert client.get_model_config("echo").config.name == "echo"
assert client.get_inference_statistics("echo").model_stats[0].inference_stats.success.count == 3
assert {m.name for m in client.get_model_repository_index().models} >= {"echo", "text"}
client.load_model("echo")
client.unload_model("echo")

def tensor(name, array, datatype):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made

strings = np.array([b"a", "é".encode(), b""], dtype=np.object_)
inputs = [tensor("x", x, "FP32"), tensor("s", strings, "BYTES")]
for compression in (None, "gzip", "deflate"):
    result = client.infer("echo", inputs, request_id="7", compression_algorithm=compression, client_timeout=20)
    assert (result.as_numpy("x") == x).all()
    assert result.as_numpy("s").tolist() == strings.tolist()
    assert result.get_response().id == "7"
subset = client.infer("echo", inputs, outputs=[triton.InferRequestedOutput("s")], priority=1, timeout=5_000_000)
assert subset.as_numpy("x") is None

try:
    client.infer("echo", [tensor("x", x.astype(np.float64), "FP64")])
except InferenceServerException as error:
    assert "expected FP32" in error.message(), error
    assert error.status() == "StatusCode.INVALID_ARGUMENT", error.status()
else:
    raise AssertionError
try:
    client.infer("echo", inputs, parameters={"do": "wait"}, client_timeout=0.3)
except InferenceServerException as error:
    assert "Deadline Exceeded" in error.message(), error
else:
    raise AssertionError

got = queue.Queue()
client.start_stream(lambda result, error: got.put((result, error)))
prompt = tensor("text_input", np.array([b"a b"], dtype=np.object_), "BYTES")
client.async_stream_infer("text", [prompt], enable_empty_final_response=True)
texts = []
while True:
    result, error = got.get(timeout=20)
    assert error is None, error
    if result.get_response().parameters["triton_final_response"].bool_param:
        break
    texts.append(result.as_numpy("text_output")[0])
assert texts == [b"a", b"b"], texts
client.async_stream_infer("nope", [prompt])
result, error = got.get(timeout=20)
assert "unknown model" in error.message()
client.stop_stream()
print("fine")
"""
)

_AIO = (
    _COMMON
    + """
import asyncio
import tritonclient.grpc.aio as triton

async def main():
    async with triton.InferenceServerClient(address) as client:
        assert await client.is_model_ready("echo")
        made = triton.InferInput("x", [2, 3], "FP32")
        made.set_data_from_numpy(x)
        results = await asyncio.gather(*(client.infer("echo", [made]) for _ in range(20)))
        assert all((r.as_numpy("x") == x).all() for r in results)

        async def requests():
            yield {"model_name": "echo", "inputs": [made], "request_id": "1"}
            yield {"model_name": "nope", "inputs": [made], "request_id": "2"}

        outcomes = [(result, error) async for result, error in client.stream_infer(requests())]
        assert outcomes[0][1] is None and (outcomes[0][0].as_numpy("x") == x).all()
        assert "unknown model" in outcomes[1][1].message()

asyncio.run(main())
print("fine")
"""
)


@pytest.mark.parametrize("program", [_SYNC, _AIO], ids=["sync", "aio"])
def test_unmodified_clients_work(program: str, tmp_path: Path) -> None:
    with Rig(threads=48) as rig:
        command = [sys.executable, "-c", program, rig.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.stdout == "fine\n", done.stderr
