"""Profiles on demand: what they measure, when they end, and that they leave nothing behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from appliance import limits
from appliance.answers import ProfileDone
from appliance.calls import InferCall, ProfileCall
from appliance.engine.base import LoadOptions
from appliance.engine.onnx import load as loading
from appliance.engine.onnx.load import load
from appliance.engine.onnx.profiling import Measured, Profiler, merged
from appliance.errors import InternalError, InvalidArgument, ResourceExhausted
from appliance.model_spec import ModelFile


class Time:
    """Nanoseconds that pass when a test says so."""

    def __init__(self):
        self.ns = 10**9

    def __call__(self):
        return self.ns

    def pass_seconds(self, seconds):
        self.ns += int(seconds * 1e9)


class Sessions:
    """Stands for the runtime: sessions that write a file each."""

    def __init__(self, content=b"[]", count=1):
        self.content, self.count = content, count
        self.scratch = None
        self.ran = []

    def open(self, scratch):
        self.scratch = scratch
        return Measured(
            lambda names, feed: self.ran.append(names) or [1], [_Session(self, i) for i in range(self.count)]
        )


class _Session:
    def __init__(self, owner, number):
        self.owner, self.number = owner, number

    def get_profiling_start_time_ns(self):
        return 1000 * self.number

    def end_profiling(self):
        path = self.owner.scratch / f"{self.number}_2026.json"
        path.write_bytes(self.owner.content)
        return str(path)


@pytest.fixture
def clock():
    return Time()


def profiler(sessions, clock, folder="", memory=None):
    return Profiler(sessions.open, str(folder), clock, memory)


def test_it_runs_for_as_long_as_was_asked(bench, clock, tmp_path):
    sessions = Sessions(b'[{"name": "model_run"}]')
    profile = profiler(sessions, clock, tmp_path)
    reply = bench.reply()
    run = profile.begin(ProfileCall(seconds=2.0), reply)
    assert sessions.scratch.stat().st_mode & 0o777 == 0o700
    assert [run(["y"], {}), run(["z"], {})] == [[1], [1]]
    clock.pass_seconds(1.99)
    assert not profile.over()
    clock.pass_seconds(0.02)
    assert profile.over()
    profile.end()
    assert not profile.over()
    assert reply.answers == [ProfileDone(2)]
    assert b"".join(reply.buffers) == sessions.content
    assert sessions.ran == [["y"], ["z"]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), limits.profile_seconds_max + 1])
def test_seconds_that_cannot_be(bench, clock, seconds):
    with pytest.raises(InvalidArgument) as caught:
        profiler(Sessions(), clock).begin(ProfileCall(seconds=seconds), bench.reply())
    assert caught.value.reason == "PROFILE_SECONDS"


def test_one_at_a_time(bench, clock, tmp_path):
    profile = profiler(Sessions(), clock, tmp_path)
    profile.begin(ProfileCall(), bench.reply())
    with pytest.raises(ResourceExhausted) as caught:
        profile.begin(ProfileCall(), bench.reply())
    assert caught.value.reason == "PROFILE_RUNNING"
    clock.pass_seconds(11)
    profile.end()
    assert profile.begin(ProfileCall(), bench.reply())


def test_a_client_that_goes_away_ends_it(bench, clock, tmp_path):
    profile = profiler(Sessions(), clock, tmp_path)
    reply = bench.reply()
    profile.begin(ProfileCall(seconds=100), reply)
    reply.cancelled = True
    assert profile.over()
    profile.end()
    assert reply.answers == []
    assert list(tmp_path.iterdir()) == []


def test_it_ends_when_it_has_taken_its_share_of_memory(bench, clock, tmp_path):
    taken = [0]
    profile = profiler(Sessions(), clock, tmp_path, lambda: taken[0])
    run = profile.begin(ProfileCall(seconds=100), bench.reply())
    taken[0] = 10**9  # what the first run needs for itself doesn't count
    for _ in range(64):
        run([], {})
    assert not profile.over()
    taken[0] += limits.profile_memory_bytes_max + 1
    for _ in range(16):
        run([], {})
    assert profile.over()


def test_a_profile_too_large_to_send(bench, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "profile_bytes_max", 100)
    profile = profiler(Sessions(b"x" * 101), clock, tmp_path)
    reply = bench.reply()
    profile.begin(ProfileCall(), reply)
    clock.pass_seconds(11)
    profile.end()
    assert reply.error.reason == "PROFILE_TOO_LARGE"


def test_a_file_that_is_gone_fails_the_profile_and_not_the_engine(bench, clock, tmp_path):
    sessions = Sessions()
    profile = profiler(sessions, clock, tmp_path)
    reply = bench.reply()
    profile.begin(ProfileCall(), reply)
    shutil.rmtree(sessions.scratch)
    clock.pass_seconds(11)
    profile.end()
    assert isinstance(reply.error, InternalError)
    assert str(tmp_path) not in reply.error.message


def test_a_model_that_does_not_load_again_leaves_no_folder(bench, clock, tmp_path):
    def refuse(scratch):
        raise ResourceExhausted("not enough memory", reason="MODEL_MEMORY")

    profile = Profiler(refuse, str(tmp_path), clock)
    with pytest.raises(ResourceExhausted):
        profile.begin(ProfileCall(), bench.reply())
    assert list(tmp_path.iterdir()) == []
    assert not profile.over()


def test_what_an_engine_that_died_left_behind_goes(bench, clock, tmp_path):
    (tmp_path / "profile-old").mkdir()
    (tmp_path / "graphs").mkdir()
    sessions = Sessions()
    profiler(sessions, clock, tmp_path).begin(ProfileCall(), bench.reply())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["graphs", sessions.scratch.name])


def test_the_files_of_a_chain_come_on_one_clock(bench, clock, tmp_path):
    sessions = Sessions(b'[{"name": "a", "ts": 5, "pid": 77}]', count=3)
    profile = profiler(sessions, clock, tmp_path)
    reply = bench.reply()
    profile.begin(ProfileCall(), reply)
    clock.pass_seconds(11)
    profile.end()
    events = json.loads(b"".join(reply.buffers))
    assert [(e["pid"], e["ts"]) for e in events] == [(1, 5), (2, 6), (3, 7)]
    assert merged([b"[]", b"[]"], [7, 3]) == b"[]"


# --- with the runtime ------------------------------------------------------------------------------------------------


def tick(engine, clock, seconds):
    clock.pass_seconds(seconds)
    assert engine.has_work()
    engine.step()
    assert not engine.has_work()


@pytest.fixture
def ticking(clock, monkeypatch):
    """An engine whose profiles end by ``clock``."""
    monkeypatch.setattr(loading.time, "monotonic_ns", clock)
    return clock


def profile_of(bench, engine, clock, calls):
    reply = bench.reply()
    engine.submit(ProfileCall(seconds=5), [], reply)
    answers = [bench.infer(engine, [bench.tensor("x", "FP32", x)])["y"].data for x in calls]
    tick(engine, clock, 6)
    assert reply.error is None
    return reply.answers[0].runs, json.loads(b"".join(reply.buffers)), [bytes(a) for a in answers]


def test_calls_of_the_engine_are_measured_and_answered_as_ever(bench, ticking):
    cache = bench.folder / "cache"
    t = bench.types
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Tanh", ["e"], ["y"])]
    (bench.folder / "m.onnx").write_bytes(bench.graph(nodes, [("x", t.FLOAT, ["n"])], [("y", t.FLOAT, ["n"])]))
    engine = load(bench.spec(), bench.folder, LoadOptions(cache_dir=str(cache)))
    calls = [np.arange(n, dtype=np.float32) for n in (1, 2, 3)]
    before = [bytes(bench.infer(engine, [bench.tensor("x", "FP32", x)])["y"].data) for x in calls]
    for _ in range(2):
        runs, events, answers = profile_of(bench, engine, ticking, calls)
        assert answers == before
        assert runs == 3
        operators = [e["args"]["op_name"] for e in events if e["cat"] == "Node"]
        assert operators == ["Exp", "Tanh"] * 3
        assert str(bench.folder) not in json.dumps(events)
        assert list(cache.iterdir()) == []
    assert bytes(bench.infer(engine, [bench.tensor("x", "FP32", calls[0])])["y"].data) == before[0]


def test_every_file_of_a_chain_is_measured(bench, ticking):
    t = bench.types

    def one(operator, a, b):
        ends = [(a, t.FLOAT, ["n"])], [(b, t.FLOAT, ["n"])]
        return bench.graph([helper.make_node(operator, [a], [b])], *ends)

    (bench.folder / "pre.onnx").write_bytes(one("Exp", "x", "mid"))
    engine = bench.load(one("Tanh", "mid", "y"), [ModelFile(path="pre.onnx", role="preprocess")])
    runs, events, _ = profile_of(bench, engine, ticking, [np.ones(2, np.float32)])
    assert runs == 1
    assert [(e["pid"], e["args"]["op_name"]) for e in events if e["cat"] == "Node"] == [(1, "Exp"), (2, "Tanh")]


def test_without_calls_there_is_nothing_but_the_load(bench, ticking):
    engine = bench.load(bench.identity())
    runs, events, _ = profile_of(bench, engine, ticking, [])
    assert runs == 0
    assert not [e for e in events if e["cat"] == "Node"]


def test_calls_that_wait_when_it_ends_are_run_too(bench, ticking):
    engine = bench.load(bench.identity())
    profile, call = bench.reply(), bench.reply()
    engine.submit(ProfileCall(seconds=5), [], profile)
    engine.submit(InferCall(), [bench.tensor("x", "FP32", np.ones(1, np.float32))], call)
    tick(engine, ticking, 6)
    assert profile.answers == [ProfileDone(0)]
    assert call.done
    assert call.error is None


def test_the_files_are_where_only_we_can_read_them(bench, ticking):
    cache = bench.folder / "cache"
    (bench.folder / "m.onnx").write_bytes(bench.identity())
    engine = load(bench.spec(), bench.folder, LoadOptions(cache_dir=str(cache)))
    engine.submit(ProfileCall(seconds=5), [], bench.reply())
    (scratch,) = cache.iterdir()
    assert scratch.stat().st_mode & 0o777 == 0o700
    assert [Path(p).suffix for p in scratch.iterdir()] == [".json"]
