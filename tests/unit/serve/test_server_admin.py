import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import msgspec
import pytest
from engine_simulator import ECHO, TEXT
from serve_rig import Rig

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.model_spec import Card, ModelFile, ModelSpec
from appliance.pb.appliance.v1 import admin_pb2 as pb
from appliance.pb.appliance.v1 import admin_pb2_grpc as pb_grpc
from appliance.questions import (
    AskActivate,
    AskAdd,
    AskDeactivate,
    AskInspect,
    AskRemove,
    AskStatus,
    DaemonStatus,
    ModelVersion,
    ProcessStatus,
    Progress,
    Refusal,
    VersionAnswer,
    VersionStatus,
)
from appliance.serve import upload
from appliance.types import EngineStats, ModelState

PATIENCE = 20
SPEC = ModelSpec(
    name="echo",
    version="1.0.0",
    engine="fake",
    files=(ModelFile(path="m"),),
    card=Card(licence="-", source="-", intended_use="-", limits="-"),
)
VERSION = ModelVersion("echo", "1.0.0", "sha256:0", 5, "/f", SPEC, 99)
STATUS = VersionStatus(
    "echo",
    "1.0.0",
    "fake",
    ModelState.READY,
    True,
    pid=7,
    refused=2,
    stats=EngineStats(success_count=3),
    signature=ECHO,
)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(threads=16) as rig:
        yield rig


@pytest.fixture
def stub(rig: Rig) -> pb_grpc.AdminStub:
    return pb_grpc.AdminStub(rig.admin)


def begin(total: int, **fields: Any) -> pb.AddModelRequest:
    return pb.AddModelRequest(begin=pb.AddModelRequest.Begin(total_bytes=total, **fields))


def file(path: str, size: int) -> pb.AddModelRequest:
    return pb.AddModelRequest(file=pb.AddModelRequest.FileBegin(path=path, size_bytes=size))


def chunk(data: bytes) -> pb.AddModelRequest:
    return pb.AddModelRequest(chunk=data)


def failure(call: Any) -> tuple[str, str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    trailers = dict(caught.value.trailing_metadata() or ())
    return caught.value.code().name, caught.value.details(), trailers.get("appliance-reason", "")


def profiled(stub: pb_grpc.AdminStub, **fields: Any) -> tuple[bytes, int, int]:
    """The profile, the number of its pieces and of the runs."""
    pieces = list(stub.ProfileModel(pb.ProfileModelRequest(**fields), timeout=PATIENCE))
    return b"".join(p.chunk for p in pieces), len(pieces), pieces[-1].runs


def test_a_profile_comes_in_pieces(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    rig.echo.profile = os.urandom(2 * limits.upload_chunk_bytes + 5)
    assert profiled(stub, name="echo", seconds=3) == (rig.echo.profile, 4, 4)
    assert rig.echo.calls[-1].seconds == 3
    assert profiled(stub, name="echo", version="1.0.0")[0] == rig.echo.profile
    assert rig.echo.calls[-1].seconds == 10
    rig.echo.profile = b""
    assert profiled(stub, name="echo") == (b"", 1, 4)


@pytest.mark.parametrize(
    ("fields", "code", "words", "reason"),
    [
        ({}, "INVALID_ARGUMENT", "which model?", "NAME_MISSING"),
        ({"name": "nobody"}, "NOT_FOUND", "Request for unknown model", ""),
        ({"name": "echo", "version": "0.9.0"}, "UNAVAILABLE", "", ""),
        ({"name": "text"}, "UNIMPLEMENTED", "'text' is a language model", "NO_PROFILE"),
        ({"name": "echo", "seconds": 13}, "RESOURCE_EXHAUSTED", "being profiled already", "PROFILE_RUNNING"),
    ],
)
def test_profiles_that_cannot_be(
    stub: pb_grpc.AdminStub, fields: dict[str, Any], code: str, words: str, reason: str
) -> None:
    got = failure(stub.ProfileModel(pb.ProfileModelRequest(**fields), timeout=PATIENCE))
    assert got[0] == code
    assert words in got[1]
    assert not reason or got[2] == reason


def test_admin_is_not_on_tcp(rig: Rig) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        pb_grpc.AdminStub(rig.channel).Status(pb.StatusRequest(), timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_socket_is_for_owner_and_group(rig: Rig) -> None:
    assert stat.S_IMODE(rig.socket.stat().st_mode) == 0o660


def test_status(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    processes = (ProcessStatus("engine", 7, 100, 5),)
    rig.supervisor.answers[AskStatus] = [DaemonStatus("0.1", 5, True, ("a",), "/s", processes, (STATUS,))]
    status = stub.Status(pb.StatusRequest(), timeout=PATIENCE)
    assert (status.version, status.ready, status.processes[0].role) == ("0.1", True, "engine")
    model = status.models[0]
    assert (model.state, model.pid, model.counters.success_count, model.counters.refused_count) == ("ready", 7, 3, 2)
    assert [(t.name, list(t.shape)) for t in model.inputs] == [("x", [-1, 3]), ("s", [-1])]


def test_a_language_model_tells_how_its_engine_does(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    names = [field.name for field in pb.LanguageFacts.DESCRIPTOR.fields]
    stats = EngineStats(running=2, **{name: number for number, name in enumerate(names, 1)})
    signature = msgspec.structs.replace(TEXT, reranks=True, adapters=("legal",))
    text = msgspec.structs.replace(STATUS, stats=stats, signature=signature)
    rig.supervisor.answers[AskStatus] = [DaemonStatus("0.1", 5, True, ("a",), "/s", (), (STATUS, text))]
    tensor, language = stub.Status(pb.StatusRequest(), timeout=PATIENCE).models
    assert not tensor.counters.HasField("language")
    facts = language.counters.language
    assert [getattr(facts, name) for name in names] == list(range(1, len(names) + 1))
    assert (language.reranks, list(language.adapters), language.counters.running) == (True, ["legal"], 2)


def test_show(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    rig.supervisor.answers[AskInspect] = [VersionAnswer(VERSION)]
    shown = stub.ShowModel(pb.ShowModelRequest(name="echo"), timeout=PATIENCE)
    assert (shown.status.state, shown.status.digest, shown.added_ms) == ("stored", "sha256:0", 99)
    assert '"engine":"fake"' in shown.spec_json


def test_questions_and_progress(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    rig.supervisor.answers[AskActivate] = [Progress("loading", 1, 2), VersionAnswer(VERSION, STATUS)]
    activate = pb.ActivateModelRequest(name="echo", version="1.0.0", beside=True, keep_previous=True)
    responses = list(stub.ActivateModel(activate, timeout=PATIENCE))
    assert [(r.text, r.current, r.total, r.done) for r in responses] == [("loading", 1, 2, False), ("", 0, 0, True)]
    assert responses[-1].status.state == "ready"
    list(stub.DeactivateModel(pb.DeactivateModelRequest(name="echo"), timeout=PATIENCE))
    list(stub.RemoveModel(pb.RemoveModelRequest(name="echo", version="1.0.0"), timeout=PATIENCE))
    assert rig.supervisor.asked == [
        AskActivate("echo", "1.0.0", True, True),
        AskDeactivate("echo"),
        AskRemove("echo", "1.0.0"),
    ]


def test_refusals_and_missing_names(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    rig.supervisor.answers[AskRemove] = [Refusal("FAILED_PRECONDITION", "LOADED", "it is loaded")]
    got = failure(stub.RemoveModel(pb.RemoveModelRequest(name="echo", version="1"), timeout=PATIENCE))
    assert got == ("FAILED_PRECONDITION", "it is loaded", "LOADED")
    assert failure(stub.RemoveModel(pb.RemoveModelRequest(name="echo"), timeout=PATIENCE))[2] == "VERSION_MISSING"
    assert failure(stub.ActivateModel(pb.ActivateModelRequest(), timeout=PATIENCE))[2] == "NAME_MISSING"


# --- uploads ---------------------------------------------------------------------------------------------------------


def incoming(rig: Rig) -> Path:
    return rig.config.state_dir / "incoming"


def test_add(rig: Rig, stub: pb_grpc.AdminStub, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bytes] = {}
    ask = rig.supervisor.ask

    def look(question: Any, timeout: float | None = None) -> Any:
        folder = incoming(rig) / question.upload
        seen.update({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
        return ask(question, timeout)

    monkeypatch.setattr(rig.supervisor, "ask", look)
    rig.supervisor.answers[AskAdd] = [Progress("testing"), VersionAnswer(VERSION, STATUS)]
    parts = [
        begin(9, no_activate=True, keep_previous=True),
        file("model.toml", 4),
        chunk(b"ab"),
        chunk(b"cd"),
        file("data/w", 5),
        chunk(b"12345"),
        file("empty", 0),
    ]
    responses = list(stub.AddModel(iter(parts), timeout=PATIENCE))
    assert [r.done for r in responses] == [False, True]
    assert seen == {"model.toml": b"abcd", "data/w": b"12345", "empty": b""}
    question = rig.supervisor.asked[0]
    assert isinstance(question, AskAdd)
    assert (question.activate, question.keep_previous) == (False, True)
    assert list(incoming(rig).iterdir()) == []


class Bad(NamedTuple):
    parts: list[pb.AddModelRequest]
    code: str
    words: str


@pytest.mark.parametrize(
    "bad",
    [
        Bad([], "INVALID_ARGUMENT", "ended before it began"),
        Bad([file("a", 1)], "INVALID_ARGUMENT", "begins with Begin"),
        Bad([begin(1), begin(1)], "INVALID_ARGUMENT", "begins with Begin"),
        Bad([pb.AddModelRequest()], "INVALID_ARGUMENT", "begins with Begin"),
        Bad([begin(1), pb.AddModelRequest()], "INVALID_ARGUMENT", "has no part"),
        Bad([begin(1), chunk(b"a")], "INVALID_ARGUMENT", "before any file"),
        Bad([begin(0)], "INVALID_ARGUMENT", "no file was sent"),
        Bad([begin(1), file("a", 1), chunk(b"ab")], "INVALID_ARGUMENT", "longer than was announced"),
        Bad([begin(2), file("a", 2), chunk(b"a")], "INVALID_ARGUMENT", "'a' is 1 bytes short"),
        Bad([begin(2), file("a", 3)], "INVALID_ARGUMENT", "more than the 2 bytes"),
        Bad([begin(2), file("a", 1), chunk(b"a")], "INVALID_ARGUMENT", "1 bytes came, 2 were announced"),
        Bad([begin(2), file("a", 1), chunk(b"a"), file("a", 1)], "INVALID_ARGUMENT", "sent twice"),
        Bad([begin(2), file("a", 1), chunk(b"a"), file("a/b", 1)], "INVALID_ARGUMENT", "a file and a folder at once"),
        Bad([begin(2), file("../a", 1)], "INVALID_ARGUMENT", "is no path of a model file"),
        Bad([begin(limits.model_bytes_max + 1)], "INVALID_ARGUMENT", "at most"),
    ],
)
def test_bad_uploads_leave_nothing(rig: Rig, stub: pb_grpc.AdminStub, bad: Bad) -> None:
    code, words, _ = failure(stub.AddModel(iter(bad.parts), timeout=PATIENCE))
    assert code == bad.code
    assert bad.words in words
    assert rig.supervisor.asked == []
    assert rig.gate.wait_empty(PATIENCE)
    assert list(incoming(rig).iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "..",
        "a/../b",
        "./a",
        "a//b",
        "a/",
        "",
        "a\\b",
        "a\0b",
        "a\nb",
        "x" * 256,
        "a/" * 8 + "b",
        "é" * 600,
    ],
)
def test_unsafe_paths(path: str) -> None:
    with pytest.raises(InvalidArgument):
        upload.safe_parts(path)


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with upload.Upload(tmp_path / "incoming") as up:
        (up.folder / "link").symlink_to(outside)
        up.begin(1)
        with pytest.raises(InvalidArgument):
            up.file("link/a", 1)
    assert list(outside.iterdir()) == []


def test_no_room_is_seen_before_anything_is_sent(
    rig: Rig, stub: pb_grpc.AdminStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    code, words, reason = failure(stub.AddModel(iter([begin(5000)]), timeout=PATIENCE))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
    assert "5000 bytes, the daemon's disk has 100 free" in words


def test_a_disk_that_fills_up_on_the_way(rig: Rig, stub: pb_grpc.AdminStub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(upload.os, "write", full)
    code, words, reason = failure(stub.AddModel(iter([begin(1), file("a", 1), chunk(b"a")]), timeout=PATIENCE))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
    assert "the daemon's disk is full" in words
    assert rig.gate.wait_empty(PATIENCE)
    assert list(incoming(rig).iterdir()) == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    import queue

    parts: queue.SimpleQueue[pb.AddModelRequest] = queue.SimpleQueue()
    call = stub.AddModel(iter(parts.get, None), timeout=PATIENCE)
    parts.put(begin(10))
    parts.put(file("a", 10))
    while not list(incoming(rig).glob("*/a")) if incoming(rig).exists() else True:
        if not call.is_active():
            pytest.fail(str(call.details()))
    call.cancel()
    assert rig.gate.wait_empty(PATIENCE)
    assert list(incoming(rig).iterdir()) == []
