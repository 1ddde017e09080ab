"""The supervisor's answers in the words of appliance.v1.Admin."""

from collections.abc import Iterable

import msgspec

from appliance.pb.appliance.v1 import admin_pb2 as pb
from appliance.questions import DaemonStatus, VersionStatus
from appliance.store_questions import GarbageReport, StoreProblem, StoreReport
from appliance.sync_questions import SyncLine, SyncPlanned, SyncStatus, TrustAnswer, TrustClockAnswer, Visit
from appliance.types import EngineStats, ModelKind, TensorSpec


def status_response(answer: DaemonStatus) -> pb.StatusResponse:
    """All that `appliance status` shows."""
    return pb.StatusResponse(
        version=answer.version,
        uptime_ms=answer.uptime_ms,
        ready=answer.ready,
        addresses=answer.addresses,
        state_dir=answer.state_dir,
        processes=[
            pb.ProcessStatus(
                role=p.role, pid=p.pid, memory_bytes=p.memory_bytes, uptime_ms=p.uptime_ms, restarts=p.restarts
            )
            for p in answer.processes
        ],
        models=[model_status(m) for m in answer.models],
        missing=answer.missing,
    )


def model_status(status: VersionStatus) -> pb.ModelStatus:
    """One version."""
    message = pb.ModelStatus(
        name=status.name,
        version=status.version,
        engine=status.engine,
        state=status.state.value,
        active=status.active,
        digest=status.digest,
        size_bytes=status.size_bytes,
        reason=status.reason,
        pid=status.pid,
        memory_bytes=status.memory_bytes,
        uptime_ms=status.uptime_ms,
        restarts=status.restarts,
        counters=_counters(status),
        service_class=status.service_class,
        pids=status.pids,
        probation_until_ms=status.probation_until_ms,
        quarantine_reason=status.quarantine_reason,
    )
    if status.beside is not None:
        beside = status.beside
        message.comparison.CopyFrom(
            pb.RunningComparison(candidate=beside.version, mode=beside.mode.value, percent=beside.percent)
        )
    signature = status.signature
    if signature is not None:
        message.kind = signature.kind.value
        message.inputs.extend(_tensor_specs(signature.inputs))
        message.outputs.extend(_tensor_specs(signature.outputs))
        message.chats, message.embeds, message.reranks = signature.chats, signature.embeds, signature.reranks
        message.context_tokens_max = signature.context_tokens_max
        message.batch_rows_max = signature.batch_rows_max
        message.provider, message.sequences = signature.provider, signature.sequences
        message.adapters.extend(signature.adapters)
        if signature.kind is ModelKind.LANGUAGE:
            message.counters.language.CopyFrom(_language_facts(status.stats))
    return message


def store_report(report: StoreReport) -> pb.StoreReport:
    """What a check or a repair of the store found."""
    return pb.StoreReport(
        versions=report.versions,
        blobs=report.blobs,
        bytes_read=report.bytes_read,
        problems=_problems(report.problems),
        problem_count=report.problem_count,
        healed=_problems(report.healed),
        healed_count=report.healed_count,
        set_aside=report.set_aside,
        set_aside_bytes=report.set_aside_bytes,
    )


def garbage_report(report: GarbageReport) -> pb.GarbageReport:
    """What a garbage collection removed or would remove."""
    items = [pb.GarbageItem(kind=i.kind, place=i.place, size_bytes=i.size_bytes) for i in report.items]
    return pb.GarbageReport(
        dry_run=report.dry_run,
        items=items,
        item_count=report.item_count,
        bytes_freed=report.bytes_freed,
        kept=report.kept,
    )


def _problems(problems: Iterable[StoreProblem]) -> list[pb.StoreProblem]:
    return [
        pb.StoreProblem(
            kind=p.kind, place=p.place, wrong=p.wrong, todo=p.todo, models=p.models, file=p.file, in_use=p.in_use
        )
        for p in problems
    ]


def _tensor_specs(specs: Iterable[TensorSpec]) -> list[pb.TensorSpec]:
    return [
        pb.TensorSpec(
            name=s.name,
            datatype=s.datatype,
            shape=s.shape,
            labels=s.labels,
            unit=s.unit,
            threshold=s.threshold,
            description=s.description,
            optional=s.optional,
        )
        for s in specs
    ]


def _counters(status: VersionStatus) -> pb.EngineCounters:
    stats = status.stats
    return pb.EngineCounters(
        success_count=stats.success_count,
        fail_count=stats.fail_count,
        cancel_count=stats.cancel_count,
        refused_count=status.refused,
        lost_count=status.lost,
        queue_ns=stats.queue_ns,
        compute_ns=stats.compute_ns,
        inference_count=stats.inference_count,
        execution_count=stats.execution_count,
        tokens_in=stats.tokens_in,
        tokens_out=stats.tokens_out,
        waiting=stats.waiting,
        running=stats.running,
        last_inference_ms=stats.last_inference_ms,
        compute_input_ns=stats.compute_input_ns,
        compute_output_ns=stats.compute_output_ns,
        sequences=stats.sequences,
        sequences_expired=stats.sequences_expired,
        sequence_bytes=stats.sequence_bytes,
        batch_sizes=stats.batch_sizes,
    )


def _language_facts(stats: EngineStats) -> pb.LanguageFacts:
    return pb.LanguageFacts(
        kv_tokens=stats.kv_tokens,
        kv_used=stats.kv_used,
        kv_kept=stats.kv_kept,
        prefix_hits=stats.prefix_hits,
        prefix_misses=stats.prefix_misses,
        prefix_tokens_saved=stats.prefix_tokens_saved,
        tokens_per_second=stats.tokens_per_second,
        step_ns=stats.step_ns,
        preempted_count=stats.preempted_count,
        drafted_tokens=stats.drafted_tokens,
        accepted_tokens=stats.accepted_tokens,
    )


def sync_response(status: SyncStatus) -> pb.SyncResponse:
    """What comes from the registry."""
    plain = {name: getattr(status, name) for name in status.__struct_fields__ if name not in ("lines", "visit")}
    return pb.SyncResponse(lines=_sync_lines(status.lines), visit=_visit(status.visit), **plain)


def plan_response(planned: SyncPlanned) -> pb.PlanSyncResponse:
    """What the next poll would do."""
    return pb.PlanSyncResponse(
        source=planned.source,
        polled_ms=planned.polled_ms,
        removals=[pb.PlannedRemoval(**msgspec.structs.asdict(removal)) for removal in planned.removals],
        installs=[pb.PlannedInstall(**msgspec.structs.asdict(install)) for install in planned.installs],
        lines=_sync_lines(planned.lines),
    )


def _sync_lines(lines: Iterable[SyncLine]) -> list[pb.SyncLine]:
    return [
        pb.SyncLine(line=s.line, version=s.version, state=s.state, reason=s.reason, fetch_bytes=s.fetch_bytes)
        for s in lines
    ]


def _visit(visit: Visit | None) -> pb.Visit | None:
    if visit is None:
        return None
    return pb.Visit(
        path=visit.path,
        ended_ms=visit.ended_ms,
        error=visit.error,
        lines=_sync_lines(visit.lines),
        returned=visit.returned,
        not_returned=visit.not_returned,
    )


def trust_response(answer: TrustAnswer) -> pb.TrustRootResponse:
    """What a root of trust says."""
    roles = [pb.TrustKeys(role=r.role, threshold=r.threshold, fingerprints=r.fingerprints) for r in answer.roles]
    return pb.TrustRootResponse(
        version=answer.version, expires_ms=answer.expires_ms, roles=roles, outcome=answer.outcome
    )


def clock_response(answer: TrustClockAnswer) -> pb.TrustClockResponse:
    """Which time expiry is judged by."""
    return pb.TrustClockResponse(**msgspec.structs.asdict(answer))
