#!/usr/bin/env python3
"""The client's side of scripts/demo: adds the models that are missing, then asks each of them something."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from appliance.pb.appliance.v1 import generation_pb2 as gen  # noqa: E402 - the path comes first
from appliance.pb.appliance.v1 import generation_pb2_grpc as gen_grpc  # noqa: E402
from appliance.pb.inference import grpc_service_pb2 as oip  # noqa: E402
from appliance.pb.inference import grpc_service_pb2_grpc as oip_grpc  # noqa: E402
from models.audio import CHUNK, sounds  # noqa: E402

READY_SECONDS_MAX = 60.0
MODELS = ("breast-cancer", "diabetes", "silero-vad", "smollm2")
WINDOWS = 8
QUESTION = "What is the capital of France? Answer in one sentence."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True, help="the daemon's unix socket")
    parser.add_argument("--models", required=True, type=Path, help="what scripts/make_models made")
    parser.add_argument("--daemon", required=True, type=int, help="the daemon's pid")
    options = parser.parse_args()
    with grpc.insecure_channel(f"unix:{options.socket}") as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        wait_until_live(stub, options.daemon)
        add_missing(stub, options)
        classification(stub)
        regression(stub)
        audio(stub)
        chat(gen_grpc.GenerationStub(channel))


def wait_until_live(stub: oip_grpc.GRPCInferenceServiceStub, daemon: int) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            if stub.ServerReady(oip.ServerReadyRequest(), wait_for_ready=True, timeout=1).ready:
                return
        except grpc.RpcError:
            os.kill(daemon, 0)  # raises when the daemon has ended: it has said why
    sys.exit("demo: the daemon is not ready")


def add_missing(stub: oip_grpc.GRPCInferenceServiceStub, options: argparse.Namespace) -> None:
    """A second run finds its models in the store; their engines may still be loading."""
    stored = {(m.name, m.version) for m in stub.RepositoryIndex(oip.RepositoryIndexRequest()).models}
    for name in MODELS:
        toml = (options.models / name / "model.toml").read_text()
        version = next(line.split('"')[1] for line in toml.splitlines() if line.startswith("version = "))
        if (name, version) not in stored:
            command = ["models", "add", str(options.models / name), "--socket", options.socket]
            subprocess.run([Path(sys.executable).parent / "appliance", *command], check=True)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not all(stub.ModelReady(oip.ModelReadyRequest(name=n)).ready for n in MODELS):
        if time.monotonic() > deadline:
            sys.exit("demo: the models are not ready; the daemon's log says why")
        time.sleep(0.05)


def tensor(name: str, datatype: str, array: np.ndarray) -> oip.ModelInferRequest.InferInputTensor:
    return oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=array.shape)


def infer(
    stub: oip_grpc.GRPCInferenceServiceStub, model: str, inputs: dict[str, tuple[str, np.ndarray]], **classes: int
) -> dict[str, bytes]:
    """Output name to raw bytes; ``classes`` asks an output for its k best classes."""
    request = oip.ModelInferRequest(model_name=model)
    for name, (datatype, array) in inputs.items():
        request.inputs.append(tensor(name, datatype, array))
        request.raw_input_contents.append(array.tobytes())
    for name, count in classes.items():
        output = request.outputs.add(name=name)
        output.parameters["classification"].int64_param = count
    response = stub.ModelInfer(request)
    return dict(zip((o.name for o in response.outputs), response.raw_output_contents, strict=True))


def say(title: str, question: str, answer: str) -> None:
    print(f"\n{title}\n  ask     {question}\n  answer  {answer}", flush=True)


def classification(stub: oip_grpc.GRPCInferenceServiceStub) -> None:
    data = load_breast_cancer()
    row = data.data[20:21].astype(np.float32)
    raw = infer(stub, "breast-cancer", {"features": ("FP32", row)}, probabilities=2)["probabilities"]
    classes = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        value, _, label = raw[4 : 4 + size].decode().split(":")
        classes.append(f"{label} {float(value):.0%}")
        raw = raw[4 + size :]
    question = (
        f"30 measurements of a cell nucleus, mean radius {row[0, 0]:.1f} (known: {data.target_names[data.target[20]]})"
    )
    say("Classification: breast-cancer, a forest of 100 trees (ONNX)", question, ", ".join(classes))


def regression(stub: oip_grpc.GRPCInferenceServiceStub) -> None:
    data = load_diabetes(scaled=False)
    row = data.data[10:11].astype(np.float32)
    (raw,) = infer(stub, "diabetes", {"features": ("FP32", row)}).values()
    question = f"a patient of {row[0, 0]:.0f} years, BMI {row[0, 2]:.1f}, blood pressure {row[0, 3]:.0f} (known: {data.target[10]:.0f})"
    say("Regression: diabetes, progression after one year (ONNX)", question, f"{np.frombuffer(raw, np.float32)[0]:.0f}")


def audio(stub: oip_grpc.GRPCInferenceServiceStub) -> None:
    """Each sound is a sequence: the engine keeps what the network remembers from window to window."""
    found = []
    for name, samples in sounds(WINDOWS * CHUNK).items():
        highest = 0.0
        for number in range(WINDOWS):
            request = oip.ModelInferRequest(model_name="silero-vad")
            window = samples[:, number * CHUNK :][:, :CHUNK]
            request.inputs.append(tensor("chunk", "FP32", window))
            request.raw_input_contents.append(window.tobytes())
            request.parameters["sequence_id"].string_param = name
            request.parameters["sequence_start"].bool_param = number == 0
            request.parameters["sequence_end"].bool_param = number == WINDOWS - 1
            (raw,) = stub.ModelInfer(request).raw_output_contents
            highest = max(highest, float(np.frombuffer(raw, np.float32)[0]))
        found.append(f"{name} {highest:.1%}")
    say(
        "Audio: silero-vad, is somebody speaking? (ONNX, stateful)",
        f"{WINDOWS} windows of 32 ms each of silence, a tone and a vowel; the highest answer",
        ", ".join(found),
    )


def chat(stub: gen_grpc.GenerationStub) -> None:
    options = gen.Options(sampling=gen.Sampling(temperature=0), max_tokens=48)
    request = gen.ChatRequest(
        model="smollm2", messages=[gen.ChatMessage(role="user", content=QUESTION)], options=options
    )
    print(
        f"\nChat: smollm2, 135 million parameters (GGUF), streaming\n  ask     {QUESTION}\n  answer  ",
        end="",
        flush=True,
    )
    finished = gen.Finished()
    for response in stub.Chat(request):
        print(response.text, end="", flush=True)
        if response.HasField("finished"):
            finished = response.finished
    rate = finished.usage.completion_tokens / max(finished.decode_ms, 1e-3) * 1e3
    print(f"\n          ({finished.usage.completion_tokens} tokens, {rate:.0f} tokens/s)", flush=True)


if __name__ == "__main__":
    main()
