"""`appliance status` and `appliance models ...` against a simulated daemon."""

import io
import sys

import grpc
import pytest
from terminal import Typed

from appliance import limits
from appliance.cli.exit_codes import ExitCode
from appliance.pb.appliance.v1 import admin_pb2

MODEL_TOML = """
name = "press"
version = "1.0.0"
files = [{ path = "model.onnx" }, { path = "golden/x.npy", role = "golden" }, { path = "model.onnx" }]
[[golden]]
name = "one"
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "press"
    (made / "golden").mkdir(parents=True)
    (made / "model.toml").write_text(MODEL_TOML)
    (made / "model.onnx").write_bytes(b"onnx" * 600_000)
    (made / "golden/x.npy").write_bytes(b"")
    (made / "secret.txt").write_text("not named, not sent")
    return made


@pytest.fixture
def world(daemon):
    counters = admin_pb2.EngineCounters(success_count=123_456, fail_count=3, refused_count=2, lost_count=1)
    daemon.world.add(
        "press-fault-detector",
        "1.12.0",
        active=True,
        pid=1234567,
        memory_bytes=345 << 20,
        uptime_ms=7_384_000,
        counters=counters,
        digest="sha256:" + "ab" * 32,
        size_bytes=3 << 20,
        kind="tensor",
        inputs=[admin_pb2.TensorSpec(name="x", datatype="FP32", shape=[-1, 4])],
    )
    daemon.world.add(
        "assistant",
        "2.0.0-rc.1",
        state="quarantined",
        reason="its engine died 6 times\nin [red]60 s[/red]",
        engine="llama",
    )
    return daemon.world


def fits(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 80


def test_status_table(ask, world):
    done = ask("status")
    assert done.code == 0
    assert fits(done.out)
    assert "appliance 9.9.9, ready, up 1d 1h" in done.out
    row = next(line for line in done.out.splitlines() if line.startswith("press-fault"))
    assert row.split() == [
        "press-fault-detector",
        "1.12.0*",
        "ready",
        "1234567",
        "345",
        "MiB",
        "123k",
        "6",
        "2h",
        "3m",
    ]
    assert "assistant 2.0.0-rc.1 is quarantined: its engine died 6 times in [red]60 s[/red]" in done.out
    assert "supervisor" in done.out
    assert "\x1b" not in done.out


def test_status_of_a_model_with_several_instances(ask, world):
    world.add("pair", "1.0.0", pid=41, pids=[41, 42, 43], reason="instance 4 of 4 is restarting: its engine died")
    done = ask("status")
    row = next(line for line in done.out.splitlines() if line.startswith("pair"))
    assert row.split()[2:5] == ["ready", "41", "+2"]
    assert "pair 1.0.0 is ready: instance 4 of 4 is restarting: its engine died" in done.out
    assert next(m["pids"] for m in ask("status", "--json").json["models"] if m["name"] == "pair") == [41, 42, 43]


def test_status_of_the_most_instances_with_the_longest_names_fits(ask, world):
    longest = "n" * limits.model_name_chars_max
    world.add(longest, "1.0.0-" + "v" * 58, pid=4194304, pids=range(4194304, 4194304 + 64), memory_bytes=2**44)
    assert fits(ask("status").out)


def test_status_table_with_the_longest_names_fits_and_loses_nothing(ask, world):
    world.add(
        "n" * limits.model_name_chars_max, "1.0.0-" + "v" * 58, state="quarantined", pid=4194304, memory_bytes=2**44
    )
    done = ask("status")
    assert fits(done.out)
    assert done.out.count("n" * 5) > 1
    folded = [line.split()[0] for line in done.out.splitlines() if line.startswith("nnn")]
    assert sum(map(len, folded)) == 96


@pytest.fixture
def language(world):
    facts = admin_pb2.LanguageFacts(
        kv_tokens=8192,
        kv_used=5120,
        kv_kept=1024,
        prefix_hits=1234,
        prefix_misses=90,
        prefix_tokens_saved=123_456,
        tokens_per_second=98.34,
        step_ns=10_200_000,
        drafted_tokens=100,
        accepted_tokens=60,
        preempted_count=2,
    )
    counters = admin_pb2.EngineCounters(running=16, waiting=3, language=facts)
    return world.add(
        "talker", "1.2.0", pid=9, kind="language", chats=True, reranks=True, adapters=["legal"], counters=counters
    )


def test_status_of_language_models(ask, language):
    done = ask("status")
    assert fits(done.out)
    heading, _, row = done.out.split("\n\n")[2].splitlines()
    assert heading.split()[:4] == ["LANGUAGE", "MODEL", "RUNNING", "WAITING"]
    assert row.split() == ["talker", "1.2.0", "16", "3", "5120/8192", "62%", "1234", "93%", "98.3", "10.2", "ms"]
    facts = ask("status", "--json").json["models"][2]["counters"]["language"]
    assert (facts["kv_used"], facts["prefix_tokens_saved"], facts["step_ns"]) == (5120, 123_456, 10_200_000)


def test_status_of_language_models_at_their_largest_fits(ask, world):
    huge = admin_pb2.LanguageFacts(
        kv_tokens=2**24, kv_used=2**24, prefix_hits=2**60, tokens_per_second=99_999, step_ns=10**10
    )
    counters = admin_pb2.EngineCounters(running=256, waiting=65_536, language=huge)
    world.add("n" * limits.model_name_chars_max, "1.0.0-" + "v" * 58, pid=4194304, counters=counters)
    assert fits(ask("status").out)


def test_status_of_a_language_model_that_has_done_nothing(ask, world):
    counters = admin_pb2.EngineCounters(language=admin_pb2.LanguageFacts())
    world.add("fresh", "1.0.0", pid=9, counters=counters)
    world.add("gone", "1.0.0", counters=counters)
    table = ask("status").out.split("\n\n")[2]
    assert table.splitlines()[2].split() == ["fresh", "1.0.0", "0", "0", "-", "-", "0", "-"]
    assert "gone" not in table


def test_show_of_a_language_model(ask, language):
    shown = " ".join(ask("models", "show", "talker").out.split())
    for words in (
        "does chat, reranking",
        "adapters legal",
        "now 16 running, 3 waiting",
        "KV cache 5120 of 8192 tokens taken (62%), 1024 of them kept for prompts that begin the same",
        "prefixes 1234 of 1324 calls found the beginning of their prompt computed, 123456 tokens saved",
        "speed 98.3 tokens/s, 10.2 ms a step",
        "guessed 60 of 100 tokens were right (60%)",
        "set back 2 calls",
    ):
        assert words in shown


def test_status_json(ask, world):
    document = ask("status", "--json").json
    assert document["models"][0]["counters"]["success_count"] == 123_456
    facts = {"labels": [], "unit": "", "threshold": None, "description": "", "optional": False}
    assert document["models"][0]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4], **facts}]
    assert document["models"][1]["counters"] is None
    assert document["processes"][0]["pid"] == 1000


@pytest.fixture
def stateful(world):
    return world.add(
        "vad",
        "1.0.0",
        pid=9,
        kind="tensor",
        sequences=True,
        counters=admin_pb2.EngineCounters(
            success_count=9,
            execution_count=3,
            inference_count=9,
            batch_sizes={4: 2, 1: 1},
            sequences=12,
            sequences_expired=3,
            sequence_bytes=12 * 1024,
        ),
        inputs=[admin_pb2.TensorSpec(name="state", datatype="FP32", shape=[2, -1, 128], optional=True)],
        outputs=[
            admin_pb2.TensorSpec(
                name="speech",
                datatype="FP32",
                shape=[-1, 1],
                unit="probability",
                threshold=0.0,
                description="who speaks",
            ),
            admin_pb2.TensorSpec(name="which", datatype="INT64", shape=[-1], labels=[f"label {n}" for n in range(12)]),
            admin_pb2.TensorSpec(name="plain", datatype="FP32", shape=[-1]),
        ],
    )


def test_what_outputs_mean_and_the_sequences_that_live(ask, stateful):
    done = ask("models", "show", "vad")
    assert fits(done.out)
    shown = " ".join(done.out.split())
    for words in (
        "input? state FP32 [2, ?, 128]",
        "speech who speaks; unit probability; yes from 0 on",
        "which labels label 0, label 1",
        "label 9 and 2 more",
        "sequences 12 live, 12 KiB of states, 3 forgotten because no call came",
    ):
        assert words in shown
    assert shown.count("plain") == 1
    model = ask("models", "show", "vad", "--json").json["status"]
    assert [t["threshold"] for t in model["outputs"]] == [0.0, None, None]
    assert model["counters"]["batch_sizes"] == {"1": 1, "4": 2}
    assert (model["counters"]["sequences"], model["counters"]["sequence_bytes"]) == (12, 12_288)


def test_status_of_a_daemon_that_is_not_ready(ask, world):
    world.ready = False
    world.missing = ["assistant", "iris"]
    done = ask("status")
    assert done.code == ExitCode.UNAVAILABLE
    assert "NOT READY" in done.out
    assert "required by the configuration, but not ready: assistant, iris" in done.out
    assert ask("status", "--json").code == ExitCode.UNAVAILABLE
    assert ask("status", "--json").json["ready"] is False


def test_status_of_a_quarantined_version_says_how_to_try_it_again(ask, world):
    world.add("iris", "1.0.0", state="quarantined", reason="its engine died")
    told = " ".join(ask("status").out.split())
    assert "iris 1.0.0 is quarantined: its engine died; try it again with: appliance models activate iris 1.0.0" in told


def test_status_without_models_says_what_to_do(ask):
    assert "appliance models add FOLDER" in ask("status").out


def test_watch_draws_until_the_daemon_goes(ask, world, monkeypatch):
    def slept(_seconds):
        world.fail_with = (grpc.StatusCode.UNAVAILABLE, "the daemon is stopping")

    monkeypatch.setattr("time.sleep", slept)
    done = ask("status", "--watch")
    assert done.code == ExitCode.UNAVAILABLE
    assert "stopping" in done.err
    assert len(world.requests) == 2


def test_terminal_codes_of_a_daemon_are_not_obeyed(ask, world):
    world.add("x", "1.0.0", state="failed", reason="\x1b[2Jgone\x07")
    done = ask("status")
    assert "\x1b" not in done.out
    assert "\x07" not in done.out
    assert "[2Jgone" in done.out


def test_models_list(ask, world):
    done = ask("models", "list")
    assert fits(done.out)
    assert "press-fault-detector" in done.out
    assert "3 MiB" in done.out
    assert [m["name"] for m in ask("models", "list", "--json").json["models"]] == ["press-fault-detector", "assistant"]


def test_models_list_empty(ask):
    assert "appliance models add FOLDER" in ask("models", "list").out
    assert ask("models", "list", "--json").json == {"models": []}


def test_models_show(ask, world):
    done = ask("models", "show", "press-fault-detector")
    assert fits(done.out)
    for words in ("[?, 4]", "model.onnx", "MIT", "[bold]none[/bold]", "golden tests"):
        assert words in done.out
    document = ask("models", "show", "press-fault-detector", "1.12.0", "--json").json
    assert document["spec"]["card"]["licence"] == "MIT"
    assert document["added_ms"] == 1_700_000_000_000
    assert world.requests[-1].version == "1.12.0"


def test_models_show_unknown(ask, world):
    done = ask("models", "show", "nobody")
    assert done.code == ExitCode.NOT_FOUND
    assert done.err == "appliance: Request for unknown model: 'nobody' is not found\n"


def test_models_add(ask, daemon, folder):
    done = ask("models", "add", folder)
    assert done.code == 0
    (sent,) = daemon.world.uploads
    assert sent == {name: (folder / name).read_bytes() for name in ("model.toml", "model.onnx", "golden/x.npy")}
    begin = daemon.world.requests[0]
    assert begin.total_bytes == sum(map(len, sent.values()))
    assert not begin.no_activate
    assert done.out == "press 1.0.0: added, 1 golden test passed; ready, active\n"
    assert done.err.splitlines() == ["sending 3 files, 2.29 MiB", "loading press 1.0.0", "1 golden test(s) passed"]


def test_models_add_json_and_flags(ask, daemon, folder):
    done = ask("models", "add", folder, "--json", "--no-activate", "--keep-previous")
    assert done.json["status"]["name"] == "press"
    assert done.json["golden_passed"] == 1
    assert daemon.world.requests[0].no_activate
    assert daemon.world.requests[0].keep_previous


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_models_add_on_a_terminal_shows_a_bar(ask, folder, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert ask("models", "add", folder).code == 0
    assert "loading press 1.0.0" in terminal.getvalue()
    assert "%" in terminal.getvalue()


def test_models_add_refused_by_golden_test(ask, daemon, folder):
    daemon.world.fail_with = (grpc.StatusCode.FAILED_PRECONDITION, "golden test 'one' failed: y[0] is 1, expected 2")
    done = ask("models", "add", folder)
    assert done.code == ExitCode.REFUSED
    assert "golden test 'one' failed" in done.err
    assert done.out == ""


def test_models_add_that_breaks_off(ask, daemon, folder):
    daemon.world.cut_off = True
    done = ask("models", "add", folder)
    assert (done.code, "before it was done" in done.err) == (ExitCode.FAILED, True)


BAD_FOLDERS = {
    "no model.toml": (lambda f: (f / "model.toml").unlink(), "has no model.toml"),
    "not TOML": (lambda f: (f / "model.toml").write_text("name = "), "is not valid TOML"),
    "not UTF-8": (lambda f: (f / "model.toml").write_bytes(b"\xff"), "is not UTF-8"),
    "enormous": (lambda f: (f / "model.toml").write_bytes(b"#" * (limits.model_toml_bytes_max + 1)), "larger than"),
    "file missing": (lambda f: (f / "model.onnx").unlink(), "model.onnx is missing; model.toml names it"),
    "folder as file": (lambda f: (f / "model.toml").write_text("files = [{ path = 'golden' }]"), "is not a file"),
    "outside": (lambda f: (f / "model.toml").write_text("files = [{ path = '../../../etc/passwd' }]"), ""),
    "outside, there": (lambda f: (f / "model.toml").write_text("files = [{ path = '../other' }]"), "is outside of"),
    "absolute": (lambda f: (f / "model.toml").write_text("files = [{ path = '/etc/hostname' }]"), "is outside of"),
    "link": (lambda f: [(f / "model.onnx").unlink(), (f / "model.onnx").symlink_to("/etc/passwd")], "is outside of"),
    "zero byte": (lambda f: (f / "model.toml").write_text('files = [{ path = "a\\u0000" }]'), "zero byte"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_models_add_bad_folder(ask, daemon, folder, case):
    (folder.parent / "other").write_text("x")
    spoil, words = BAD_FOLDERS[case]
    spoil(folder)
    done = ask("models", "add", folder)
    assert done.code == ExitCode.INVALID_INPUT
    assert words in done.err
    assert done.err.count("\n") == 1
    assert daemon.world.requests == []


@pytest.mark.parametrize("text", ["", "files = 3", "files = [1, { path = 2 }, { path = '' }]\ngolden = 1"])
def test_what_is_odd_is_left_for_the_daemon(ask, daemon, folder, text):
    (folder / "model.toml").write_text(text)
    done = ask("models", "add", folder)
    assert list(daemon.world.uploads[0]) == ["model.toml"]
    assert "no golden tests" in done.out


def test_models_add_no_folder(ask, tmp_path):
    assert ask("models", "add", tmp_path / "none").code == ExitCode.INVALID_INPUT


def test_file_that_shrinks_while_it_is_sent(ask, folder, monkeypatch):
    from appliance.cli import upload

    monkeypatch.setattr(upload, "_size", lambda folder, name: 5_000_000)
    done = ask("models", "add", folder)
    assert done.code == ExitCode.INVALID_INPUT
    assert "changed while it was sent" in done.err


def test_file_that_goes_while_it_is_sent(ask, folder, monkeypatch):
    from appliance.cli import upload

    text = "files = [{ path = 'gone' }]"
    monkeypatch.setattr(upload, "_size", lambda folder, name: len(text))
    (folder / "model.toml").write_text(text)
    done = ask("models", "add", folder)
    assert (done.code, "gone: No such file" in done.err) == (ExitCode.INVALID_INPUT, True)


def test_models_activate(ask, world):
    done = ask("models", "activate", "assistant", "2.0.0-rc.1", "--keep-previous")
    assert done.out == "assistant 2.0.0-rc.1: activated; quarantined, active\n"
    assert world.requests[-1].keep_previous
    done = ask("models", "activate", "assistant", "--beside", "--json")
    assert world.requests[-1].beside
    assert world.requests[-1].version == ""
    assert done.json["outcome"] == "loaded"


def test_models_deactivate(ask, world):
    assert ask("models", "deactivate", "assistant").out == "assistant is unloaded\n"
    assert ask("models", "deactivate", "nobody").code == ExitCode.NOT_FOUND
    assert ask("models", "deactivate", "assistant", "2.0.0-rc.1", "--json").json["status"] is None


def test_models_remove(ask, world):
    done = ask("models", "remove", "assistant", "2.0.0-rc.1", "--yes")
    assert done.out == "assistant 2.0.0-rc.1 is removed\n"
    assert ("assistant", "2.0.0-rc.1") not in world.models


def test_models_remove_asks_first(ask, world, monkeypatch):
    done = ask("models", "remove", "assistant", "2.0.0-rc.1")
    assert (done.code, "--yes" in done.err) == (ExitCode.USAGE, True)
    assert ("assistant", "2.0.0-rc.1") in world.models


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", ExitCode.FAILED), ("", ExitCode.FAILED)])
def test_models_remove_by_hand(daemon, world, answer, code):
    """On a real terminal, which is what the question is for."""
    with Typed("models", "remove", "assistant", "2.0.0-rc.1", "--socket", daemon.socket) as person:
        person.expect("for good? [y/N]: ")
        person.type(answer + "\n")
        assert person.leaves() == code
    assert (("assistant", "2.0.0-rc.1") in world.models) == (code != 0)


@pytest.fixture
def tensors(world):
    counters = admin_pb2.EngineCounters(
        success_count=1000,
        queue_ns=2_500_000_000,
        compute_ns=50_000_000,
        compute_input_ns=3_000_000,
        compute_output_ns=4_000_000,
        inference_count=1100,
        execution_count=250,
        waiting=2,
        batch_sizes={1: 50, 4: 199, 64: 1},
    )
    return world.add("voice", "1.2.0", pid=9, kind="tensor", batch_rows_max=64, counters=counters)


def test_status_of_tensor_models(ask, tensors):
    done = ask("status")
    assert fits(done.out)
    heading, _, row = done.out.split("\n\n")[2].splitlines()
    assert heading.split() == ["TENSOR", "MODEL", "RUNS", "ROWS/RUN", "WAITING", "QUEUE", "COMPUTE"]
    assert row.split() == ["voice", "1.2.0", "250", "4.4", "2", "2.5", "ms", "0.05", "ms"]
    counters = ask("status", "--json").json["models"][2]["counters"]
    assert counters["batch_sizes"] == {"1": 50, "4": 199, "64": 1}
    assert counters["compute_input_ns"] == 3_000_000


def test_show_of_a_tensor_model(ask, tensors):
    shown = " ".join(ask("models", "show", "voice").out.split())
    for words in (
        "batching up to 64 rows together",
        "runs 250 of 1100 rows (most: 199x 4, 50x 1, 1x 64)",
        "time 2.5 ms in the queue, 0.05 ms computing (0.003 ms of it inputs, 0.004 ms outputs), the mean of 1000 calls",
    ):
        assert words in shown


def test_show_of_a_tensor_model_that_runs_calls_one_by_one(ask, world):
    world.add("lonely", "1.0.0", pid=9, kind="tensor", counters=admin_pb2.EngineCounters())
    world.add("gone", "1.0.0", kind="tensor")
    assert "calls run one by one" in ask("models", "show", "lonely").out
    assert "batching" not in ask("models", "show", "gone").out
    assert "TENSOR MODEL" not in ask("status").out


def test_status_of_tensor_models_at_their_largest_fits(ask, world):
    counters = admin_pb2.EngineCounters(
        success_count=1,
        queue_ns=10**15,
        compute_ns=10**15,
        inference_count=2**60,
        execution_count=2**50,
        waiting=65_536,
    )
    world.add("n" * limits.model_name_chars_max, "1.0.0-" + "v" * 58, pid=4194304, counters=counters)
    assert fits(ask("status").out)
