"""What operators ask about updates and sticks, through a front-end's real server to a simulated supervisor."""

from collections.abc import Iterator

import grpc
import msgspec
import pytest
from serve_rig import Rig

from appliance.pb.appliance.v1 import admin_pb2 as pb
from appliance.pb.appliance.v1 import admin_pb2_grpc as pb_grpc
from appliance.questions import Refusal
from appliance.sync_questions import AskSync, AskTrustClock, AskVisit, SyncLine, SyncStatus, TrustClockAnswer, Visit

PATIENCE = 20
LINE = SyncLine("press", "2.0.0", "refused", "no room", 5)
WIRE = pb.SyncLine(line="press", version="2.0.0", state="refused", reason="no room", fetch_bytes=5)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(threads=16) as rig:
        yield rig


@pytest.fixture
def stub(rig: Rig) -> pb_grpc.AdminStub:
    return pb_grpc.AdminStub(rig.admin)


def test_every_field_of_the_status_goes_out(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    """Also those that were added after this test was written: one that the protocol lacks would fail here."""
    visit = Visit("/s", 7, "the stick is gone", (LINE,), "/s/return/a.json", "")
    rig.supervisor.answers[AskSync] = [SyncStatus("offline:", visiting="/t", visit=visit, lines=(LINE,), polled_ms=3)]
    found = stub.Sync(pb.SyncRequest(), timeout=PATIENCE)
    assert (found.registry, found.visiting, found.polled_ms) == ("offline:", "/t", 3)
    assert list(found.lines) == [WIRE]
    assert found.visit == pb.Visit(
        path="/s", ended_ms=7, error="the stick is gone", lines=[WIRE], returned="/s/return/a.json"
    )
    assert {*SyncStatus.__struct_fields__} <= {field.name for field in pb.SyncResponse.DESCRIPTOR.fields}
    assert Visit.__struct_fields__ == tuple(field.name for field in pb.Visit.DESCRIPTOR.fields)


def test_no_stick_yet_is_none_and_not_an_empty_one(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    rig.supervisor.answers[AskSync] = [SyncStatus("offline:")]
    assert not stub.Sync(pb.SyncRequest(), timeout=PATIENCE).HasField("visit")


def test_a_stick_is_asked_about_with_its_path(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    rig.supervisor.answers[AskVisit] = [SyncStatus("offline:", visiting="/s")]
    assert stub.Visit(pb.VisitRequest(path="/s"), timeout=PATIENCE).status.visiting == "/s"
    assert rig.supervisor.asked[-1] == AskVisit("/s")


@pytest.mark.parametrize("path", ["", "/" + "x" * 4096])
def test_paths_that_nobody_has(rig: Rig, stub: pb_grpc.AdminStub, path: str) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        stub.Visit(pb.VisitRequest(path=path), timeout=PATIENCE)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rig.supervisor.asked == []


def test_a_refusal_keeps_its_words(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    rig.supervisor.answers[AskVisit] = [Refusal("FAILED_PRECONDITION", "NO_LAYOUT", "/s is no OCI layout")]
    with pytest.raises(grpc.RpcError, match="/s is no OCI layout") as failed:
        stub.Visit(pb.VisitRequest(path="/s"), timeout=PATIENCE)
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_the_clock_that_expiry_is_judged_by(rig: Rig, stub: pb_grpc.AdminStub) -> None:
    """Every field, also those that were added after this test was written."""
    answer = TrustClockAnswer(**{name: at for at, name in enumerate(TrustClockAnswer.__struct_fields__, 1)})
    rig.supervisor.answers[AskTrustClock] = [answer]
    found = stub.TrustClock(pb.TrustClockRequest(reset=True), timeout=PATIENCE)
    assert {field.name: value for field, value in found.ListFields()} == msgspec.structs.asdict(answer)
    assert rig.supervisor.asked[-1] == AskTrustClock(reset=True)
    stub.TrustClock(pb.TrustClockRequest(), timeout=PATIENCE)
    assert rig.supervisor.asked[-1] == AskTrustClock()
