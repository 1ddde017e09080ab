"""The servicer of appliance.v1.Admin: what operators' tools ask, passed on to the supervisor. Unix socket only."""

# ruff: noqa: ARG002, N802  # names and arguments are gRPC's

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import msgspec

from appliance import limits
from appliance.answers import ProfileDone
from appliance.calls import ProfileCall
from appliance.errors import InvalidArgument, Unimplemented
from appliance.pb.appliance.v1 import admin_pb2 as pb
from appliance.pb.appliance.v1 import admin_pb2_grpc as pb_grpc
from appliance.questions import (
    AskActivate,
    AskAdd,
    AskDeactivate,
    AskInspect,
    AskRemove,
    AskRollback,
    AskStatus,
    DaemonStatus,
    ModelVersion,
    Progress,
    Question,
    VersionAnswer,
    VersionStatus,
)
from appliance.serve import admin_comparison, admin_convert, deadlines
from appliance.serve.asking import STATUS_SECONDS_MAX, WORK_SECONDS_MAX, Asks
from appliance.serve.caller import Caller
from appliance.serve.upload import Upload
from appliance.store_questions import AskCheckStore, AskCollectGarbage, AskRepairStore, GarbageReport, StoreReport
from appliance.sync_questions import (
    AskPlan,
    AskSync,
    AskTrust,
    AskTrustClock,
    AskVisit,
    SyncPlanned,
    SyncStatus,
    TrustAnswer,
    TrustClockAnswer,
)
from appliance.types import ModelKind, ModelState
from appliance.worker.channel import last
from appliance.worker.router import Router

Context = grpc.ServicerContext
Response = TypeVar("Response", pb.CheckStoreResponse, pb.RepairStoreResponse)
_WISHES = {
    pb.SyncRequest.WISH_UNSPECIFIED: "",
    pb.SyncRequest.WISH_NOW: "now",
    pb.SyncRequest.WISH_PAUSE: "pause",
    pb.SyncRequest.WISH_RESUME: "resume",
    pb.SyncRequest.WISH_LOOK: "look",
}
# Of a profile whose request doesn't say.
PROFILE_SECONDS = 10.0


class AdminServicer(pb_grpc.AdminServicer):
    """Raises ApplianceError; handlers.py makes statuses of them."""

    def __init__(self, supervisor: Asks, incoming: Path, router: Router) -> None:
        self._supervisor = supervisor
        self._incoming = incoming
        self._router = router

    def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        answer = last(self._supervisor.ask(AskStatus(), STATUS_SECONDS_MAX))
        assert isinstance(answer, DaemonStatus)  # control.py: the answer to AskStatus
        return admin_convert.status_response(answer)

    def ShowModel(self, request: pb.ShowModelRequest, context: Context) -> pb.ShowModelResponse:
        _check_name(request.name)
        answer = last(self._supervisor.ask(AskInspect(request.name, request.version), STATUS_SECONDS_MAX))
        assert isinstance(answer, VersionAnswer)  # control.py: the answer to AskInspect
        return pb.ShowModelResponse(
            status=admin_convert.model_status(answer.status or _stored(answer.model)),
            spec_json=msgspec.json.encode(answer.model.spec).decode(),
            added_ms=answer.model.added_ms,
        )

    def AddModel(
        self, request_iterator: Iterator[pb.AddModelRequest], context: Context
    ) -> Iterator[pb.ProgressResponse]:
        with Upload(self._incoming) as upload:
            begin = _receive(upload, request_iterator)
            seconds = _probation(begin.probation_seconds)
            yield from self._work(AskAdd(upload.name, not begin.no_activate, begin.keep_previous, seconds))

    def ActivateModel(self, request: pb.ActivateModelRequest, context: Context) -> Iterator[pb.ProgressResponse]:
        _check_name(request.name)
        seconds, keep = _probation(request.probation_seconds), request.keep_previous
        ask = AskActivate(request.name, request.version, request.beside, keep, seconds, request.force)
        yield from self._work(ask)

    def RollbackModel(self, request: pb.RollbackModelRequest, context: Context) -> Iterator[pb.ProgressResponse]:
        _check_name(request.name)
        yield from self._work(AskRollback(request.name))

    def BeginComparison(self, request: pb.BeginComparisonRequest, context: Context) -> Iterator[pb.ComparisonResponse]:
        _check_name(request.name)
        yield from admin_comparison.begin(self._supervisor, request)

    def EndComparison(self, request: pb.EndComparisonRequest, context: Context) -> Iterator[pb.ComparisonResponse]:
        _check_name(request.name)
        yield from admin_comparison.end(self._supervisor, request)

    def ShowComparison(self, request: pb.ShowComparisonRequest, context: Context) -> pb.ComparisonResponse:
        _check_name(request.name)
        return admin_comparison.show(self._supervisor, request)

    def DeactivateModel(self, request: pb.DeactivateModelRequest, context: Context) -> Iterator[pb.ProgressResponse]:
        _check_name(request.name)
        yield from self._work(AskDeactivate(request.name, request.version))

    def RemoveModel(self, request: pb.RemoveModelRequest, context: Context) -> Iterator[pb.ProgressResponse]:
        _check_name(request.name)
        if not request.version:
            raise InvalidArgument("which version is to be removed? Name it", reason="VERSION_MISSING")
        yield from self._work(AskRemove(request.name, request.version))

    def ProfileModel(self, request: pb.ProfileModelRequest, context: Context) -> Iterator[pb.ProfileModelResponse]:
        _check_name(request.name)
        caller = Caller(context)
        with caller.work(self._router, request.name, request.version, bounded=False) as work:
            signature = work.route.signature
            if signature is not None and signature.kind is ModelKind.LANGUAGE:
                raise Unimplemented(
                    f"'{request.name}' is a language model, which has no operators to measure; its speed is in"
                    " `appliance status`",
                    reason="NO_PROFILE",
                )
            call = ProfileCall(deadline_ns=deadlines.of_call(context), seconds=request.seconds or PROFILE_SECONDS)
            answer, profile = work.exchange(call)
        assert isinstance(answer, ProfileDone)  # the one answer to a ProfileCall that is no Failure
        for start in range(0, len(profile), limits.upload_chunk_bytes):
            yield pb.ProfileModelResponse(chunk=bytes(profile[start : start + limits.upload_chunk_bytes]))
        yield pb.ProfileModelResponse(runs=answer.runs)

    def CheckStore(self, request: pb.CheckStoreRequest, context: Context) -> Iterator[pb.CheckStoreResponse]:
        yield from self._report(AskCheckStore(), pb.CheckStoreResponse)

    def RepairStore(self, request: pb.RepairStoreRequest, context: Context) -> Iterator[pb.RepairStoreResponse]:
        yield from self._report(AskRepairStore(), pb.RepairStoreResponse)

    def _report(self, question: Question, response: type[Response]) -> Iterator[Response]:
        for answer in self._supervisor.ask(question, WORK_SECONDS_MAX):
            if isinstance(answer, Progress):
                yield response(text=answer.text, current=answer.done, total=answer.total)
            elif isinstance(answer, StoreReport):
                yield response(done=True, report=admin_convert.store_report(answer))

    def CollectGarbage(
        self, request: pb.CollectGarbageRequest, context: Context
    ) -> Iterator[pb.CollectGarbageResponse]:
        question = AskCollectGarbage(request.dry_run, request.set_aside)
        for answer in self._supervisor.ask(question, WORK_SECONDS_MAX):
            if isinstance(answer, Progress):
                yield pb.CollectGarbageResponse(text=answer.text, current=answer.done, total=answer.total)
            elif isinstance(answer, GarbageReport):
                yield pb.CollectGarbageResponse(done=True, report=admin_convert.garbage_report(answer))

    def Sync(self, request: pb.SyncRequest, context: Context) -> pb.SyncResponse:
        try:
            wish = _WISHES[request.wish]
        except KeyError:
            raise InvalidArgument(f"there is no wish number {request.wish}", reason="WISH_UNKNOWN") from None
        limit = request.limit_kib_s if request.HasField("limit_kib_s") else -1
        answer = last(self._supervisor.ask(AskSync(wish, limit), STATUS_SECONDS_MAX))
        assert isinstance(answer, SyncStatus)  # questions.py: the answer to AskSync
        return admin_convert.sync_response(answer)

    def Visit(self, request: pb.VisitRequest, context: Context) -> pb.VisitResponse:
        if not 0 < len(request.path) <= limits.bundle_path_chars_max:
            raise InvalidArgument("which stick? Give the path of the folder on it", reason="BAD_PATH")
        answer = last(self._supervisor.ask(AskVisit(request.path), STATUS_SECONDS_MAX))
        assert isinstance(answer, SyncStatus)  # sync_questions.py: the answer to AskVisit
        return pb.VisitResponse(status=admin_convert.sync_response(answer))

    def PlanSync(self, request: pb.PlanSyncRequest, context: Context) -> pb.PlanSyncResponse:
        answer = last(self._supervisor.ask(AskPlan(), STATUS_SECONDS_MAX))
        assert isinstance(answer, SyncPlanned)  # sync_questions.py: the answer to AskPlan
        return admin_convert.plan_response(answer)

    def TrustRoot(self, request: pb.TrustRootRequest, context: Context) -> pb.TrustRootResponse:
        question = AskTrust(request.root, request.install, request.force)
        answer = last(self._supervisor.ask(question, STATUS_SECONDS_MAX))
        assert isinstance(answer, TrustAnswer)  # questions.py: the answer to AskTrust
        return admin_convert.trust_response(answer)

    def TrustClock(self, request: pb.TrustClockRequest, context: Context) -> pb.TrustClockResponse:
        answer = last(self._supervisor.ask(AskTrustClock(request.reset), STATUS_SECONDS_MAX))
        assert isinstance(answer, TrustClockAnswer)  # sync_questions.py: the answer to AskTrustClock
        return admin_convert.clock_response(answer)

    def _work(self, question: Question) -> Iterator[pb.ProgressResponse]:
        for answer in self._supervisor.ask(question, WORK_SECONDS_MAX):
            if isinstance(answer, Progress):
                yield pb.ProgressResponse(text=answer.text, current=answer.done, total=answer.total)
            else:
                status = None
                if isinstance(answer, VersionAnswer):
                    status = admin_convert.model_status(answer.status or _stored(answer.model))
                yield pb.ProgressResponse(done=True, status=status)


def _check_name(name: str) -> None:
    if not name:
        raise InvalidArgument("which model? Give its name", reason="NAME_MISSING")


def _probation(seconds: float) -> float:
    if not 0 <= seconds <= limits.probation_seconds_max:  # NaN is not
        text = f"a probation lasts at most {limits.probation_seconds_max:,} seconds, and {seconds:g} were asked for"
        raise InvalidArgument(text, reason="PROBATION_SECONDS")
    return seconds


def _receive(upload: Upload, requests: Iterator[pb.AddModelRequest]) -> pb.AddModelRequest.Begin:
    """Writes what comes into the upload; raises InvalidArgument for parts out of order."""
    begin: pb.AddModelRequest.Begin | None = None
    for request in requests:
        part = request.WhichOneof("part")
        if (part == "begin") != (begin is None):
            raise InvalidArgument("an upload begins with Begin, once, and then come its files", reason="ORDER")
        if part == "begin":
            begin = request.begin
            upload.begin(begin.total_bytes)
        elif part == "file":
            upload.file(request.file.path, request.file.size_bytes)
        elif part == "chunk":
            upload.chunk(request.chunk)
        else:
            raise InvalidArgument("a message of the upload has no part", reason="ORDER")
    if begin is None:
        raise InvalidArgument("the upload ended before it began", reason="ORDER")
    upload.end()
    return begin


def _stored(model: ModelVersion) -> VersionStatus:
    return VersionStatus(
        name=model.name,
        version=model.version,
        engine=model.spec.engine,
        state=ModelState.STORED,
        active=False,
        digest=model.digest,
        size_bytes=model.size_bytes,
    )
