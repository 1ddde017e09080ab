"""`appliance models profile` against a simulated daemon, and its table."""

import json

import pytest

from appliance.cli.exit_codes import ExitCode
from appliance.cli.profile import Operator, operators


def node(operator, dur, name="n_kernel_time"):
    return {
        "cat": "Node",
        "name": name,
        "dur": dur,
        "ts": 1,
        "ph": "X",
        "args": {"op_name": operator, "node_index": "3"},
    }


def run(dur):
    return {"cat": "Session", "name": "model_run", "dur": dur, "args": {}}


PROFILE = [
    {"cat": "Session", "name": "session_initialization", "dur": 5000, "args": {}},
    node("Conv", 300), node("Conv", 500), node("Relu", 100), run(1000),
    node("Conv", 700), node("Relu", 100), node("Relu", 9, "n_fence_before"), run(1000),
]  # fmt: skip


def test_operators_by_type():
    assert operators(json.dumps(PROFILE).encode()) == [
        Operator("Conv", 3, 1500, 0.75),
        Operator("Relu", 2, 200, 0.1),
    ]
    assert operators(b"[]") == []
    assert operators(json.dumps([node("A", 1), node("B", 3)]).encode()) == [
        Operator("B", 1, 3, 0.75),
        Operator("A", 1, 1, 0.25),
    ]


@pytest.fixture
def world(daemon):
    daemon.world.add("press", "1.0.0", active=True)
    daemon.world.profile = (json.dumps(PROFILE).encode(), 2)
    return daemon.world


def test_table(ask, world):
    done = ask("models", "profile", "press", "--seconds", "0.5")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    lines = done.out.splitlines()
    assert lines[0] == "press: 2 runs, operators by type"
    assert lines[1].split() == ["OPERATOR", "COUNT", "TOTAL", "MS", "MEAN", "US", "SHARE"]
    assert lines[3].split() == ["Conv", "3", "1.5", "500.0", "75.0", "%"]
    assert lines[4].split() == ["Relu", "2", "0.2", "100.0", "10.0", "%"]
    assert "measuring press for 0.5 s" in done.err
    assert world.requests[-1].seconds == 0.5


def test_many_types_still_fit(ask, world):
    events = [
        node(f"com.microsoft.nchwc.An\x1b[31mOperator{i:02}WithAVeryLongNameIndeed", 50_000_000 - i) for i in range(30)
    ]
    world.profile = (json.dumps(events).encode(), 3)
    done = ask("models", "profile", "press")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "\x1b" not in done.out
    assert "10 more types" in done.out


def test_json_and_file(ask, world, tmp_path):
    file = tmp_path / "p.json"
    done = ask("models", "profile", "press", "1.0.0", "--output", file, "--json")
    assert done.json["operators"][0] == {"type": "Conv", "runs": 3, "total_us": 1500.0, "share": 0.75}
    assert (done.json["runs"], done.json["output"]) == (2, str(file))
    assert json.loads(file.read_text()) == PROFILE
    assert world.requests[-1].version == "1.0.0"


def test_no_calls_meanwhile(ask, world):
    world.profile = (b"[]", 0)
    done = ask("models", "profile", "press")
    assert done.out == "No call came to press meanwhile: there was nothing to measure\n"


def test_a_profile_that_is_none(ask, world):
    world.profile = (b"[{", 2)
    done = ask("models", "profile", "press")
    assert (done.code, done.out) == (ExitCode.FAILED, "")
    assert "profile can't be read" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nobody",), ExitCode.NOT_FOUND, "unknown model"),
        (("press", "--seconds", "0"), ExitCode.USAGE, "0.1"),
        (("press", "--seconds", "301"), ExitCode.USAGE, "300"),
        (
            ("press", "--output", "/nowhere/at/all"),
            ExitCode.USAGE,
            "--output /nowhere/at/all: No such file or directory",
        ),
    ],
)
def test_what_goes_wrong(ask, world, arguments, code, words):
    done = ask("models", "profile", *arguments)
    assert done.code == code
    assert words in " ".join(done.err.split())


# --- the provider in other commands ----------------------------------------------------------------------------------


def test_where_a_model_runs(ask, daemon):
    daemon.world.add("press", "1.0.0", active=True, pid=7, kind="tensor", provider="cuda")
    daemon.world.add("iris", "1.0.0", active=True, pid=8, kind="tensor", provider="cpu")
    shown = ask("models", "show", "press").out
    assert ["runs", "on", "cuda"] in [line.split() for line in shown.splitlines()]
    status = ask("status").out
    assert "press 1.0.0 runs on cuda" in status
    assert "iris 1.0.0 runs on" not in status
    assert ask("status", "--json").json["models"][0]["provider"] == "cuda"
