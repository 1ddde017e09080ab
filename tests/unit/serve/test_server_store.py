"""Admin's questions about the store, through a real front-end to a simulated supervisor."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from serve_rig import Rig

from appliance.pb.appliance.v1 import admin_pb2 as pb
from appliance.pb.appliance.v1 import admin_pb2_grpc as pb_grpc
from appliance.questions import Progress, Refusal
from appliance.store_questions import (
    AskCheckStore,
    AskCollectGarbage,
    AskRepairStore,
    GarbageItem,
    GarbageReport,
    StoreProblem,
    StoreReport,
)

PATIENCE = 20
PROBLEM = StoreProblem("blob-rotten", "store/x", "has other bytes", "repair", ("press:1.0.0",), "model.onnx", True)
REPORT = StoreReport(3, 20, 5000, (PROBLEM,), 7, (PROBLEM, PROBLEM), 2, 4, 4096)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


@pytest.fixture
def stub(rig: Rig) -> pb_grpc.AdminStub:
    return pb_grpc.AdminStub(rig.admin)


@pytest.mark.parametrize(
    ("question", "method", "request_"),
    [
        (AskCheckStore, "CheckStore", pb.CheckStoreRequest()),
        (AskRepairStore, "RepairStore", pb.RepairStoreRequest()),
    ],
)
def test_progress_and_the_report(rig: Rig, stub: Any, question: type, method: str, request_: Any) -> None:
    rig.supervisor.answers[question] = [Progress("checking", 1, 2), REPORT]
    first, last = getattr(stub, method)(request_, timeout=PATIENCE)
    assert (first.text, first.current, first.total, first.done) == ("checking", 1, 2, False)
    report = last.report
    assert last.done
    assert (report.versions, report.blobs, report.bytes_read, report.problem_count) == (3, 20, 5000, 7)
    assert (report.healed_count, len(report.healed), report.set_aside, report.set_aside_bytes) == (2, 2, 4, 4096)
    (problem,) = report.problems
    told = (problem.kind, problem.place, problem.wrong, problem.todo)
    assert told == (PROBLEM.kind, PROBLEM.place, PROBLEM.wrong, PROBLEM.todo)
    assert (list(problem.models), problem.file, problem.in_use) == (["press:1.0.0"], "model.onnx", True)


def test_garbage_is_asked_for_as_the_client_wants_it(rig: Rig, stub: Any) -> None:
    report = GarbageReport(True, (GarbageItem("blob", "store/x", 9),), 3, 27, ("why",))
    rig.supervisor.answers[AskCollectGarbage] = [Progress("x"), report]
    _, last = stub.CollectGarbage(pb.CollectGarbageRequest(dry_run=True, set_aside=True), timeout=PATIENCE)
    asked = rig.supervisor.asked[-1]
    assert (asked.dry_run, asked.set_aside) == (True, True)
    assert last.done
    assert (last.report.dry_run, last.report.item_count, last.report.bytes_freed) == (True, 3, 27)
    assert [(i.kind, i.place, i.size_bytes) for i in last.report.items] == [("blob", "store/x", 9)]
    assert list(last.report.kept) == ["why"]


def test_a_refusal_keeps_its_status(rig: Rig, stub: Any) -> None:
    rig.supervisor.answers[AskRepairStore] = [Refusal("RESOURCE_EXHAUSTED", "DISK_FULL", "the disk is full")]
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.RepairStore(pb.RepairStoreRequest(), timeout=PATIENCE))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "the disk is full"
