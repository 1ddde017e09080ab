"""The .deb on a Debian 12 without a network: installed by dpkg alone, it serves, and clients outside get answers."""

import json
import subprocess

import grpc
import numpy as np
import tritonclient.grpc as oip
from daemon_process import APPLIANCE
from installed_box import SOCKET, STATE, Box
from installed_disk import Installed
from traffic import fp32

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc

USER = "inference-appliance inference-appliance"


def test_the_service_is_active_when_dpkg_is_done(installed: Installed) -> None:
    assert installed.active == "active", installed.said
    assert "failed" not in installed.said.lower(), installed.said


def test_it_serves_after_a_boot(shared_box: Box) -> None:
    assert shared_box.show("UnitFileState") == "enabled"
    assert shared_box.show("StatusText") == "serving 3 models on 127.0.0.1:8001"


def test_where_state_and_socket_are(shared_box: Box) -> None:
    listed = shared_box.machine.run("stat", "-c", "%n %U %G %a", STATE, f"{STATE}/store", SOCKET).stdout.splitlines()
    assert listed == [f"{STATE} {USER} 750", f"{STATE}/store {USER} 700", f"{SOCKET} {USER} 660"]


def test_answers_through_the_unix_socket(shared_box: Box) -> None:
    with oip.InferenceServerClient(shared_box.address) as client:
        answer = client.infer("breast-cancer", fp32(np.zeros((1, 30)), "features"))
        assert answer.as_numpy("label").shape == (1,)
        assert answer.as_numpy("probabilities").sum() == np.float32(1)
    with shared_box.channel() as channel:
        assert said(channel) == "elo w"


def said(channel: grpc.Channel) -> str:
    greedy = generation_pb2.Options(max_tokens=5, sampling=generation_pb2.Sampling(temperature=0))
    request = generation_pb2.GenerateRequest(model="says", prompt="h", options=greedy)
    answers = generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=30)
    return "".join(answer.text for answer in answers)


def test_answers_over_tcp(shared_box: Box) -> None:
    """On the machine's loopback, by a client that is not the machine's."""
    words = [*APPLIANCE, "infer", "breast-cancer", "-", "--json", "--address", "127.0.0.1:8001"]
    done = subprocess.run(
        shared_box.machine.in_network(*words),
        input=json.dumps({"features": [[0.0] * 30]}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "label" in done.stdout
