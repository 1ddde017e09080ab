"""`appliance models canary, shadow, compare, promote, abandon`: a version beside the active one, before it takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance import limits
from appliance.cli import output
from appliance.cli.comparison_page import print_comparison
from appliance.cli.options import Json, ModelName, Target, connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.cli.client import Client
    from appliance.pb.appliance.v1.admin_pb2 import ComparisonResponse

_Version = Annotated[str, typer.Argument(metavar="VERSION", show_default=False)]
_Calls = Annotated[
    int, typer.Option("--calls", min=0, max=limits.comparison_calls_max, help="End after so many of its calls; 0: no.")
]
_Seconds = Annotated[
    float,
    typer.Option("--seconds", min=0, max=limits.comparison_seconds_max, help="End after so long; 0: not by time."),
]
_ByRule = Annotated[
    bool,
    typer.Option("--by-rule", help="Then activate it when it keeps to the bounds, and quarantine it when it does not."),
]
_Failed = Annotated[
    float, typer.Option("--failed-max", min=0, max=1, help="Share of its calls that may fail where the other's don't.")
]
_Agreement = Annotated[
    float, typer.Option("--agreement-min", min=0, max=1, help="Share of labels that must be the active version's.")
]
_Latency = Annotated[
    float,
    typer.Option(
        "--latency-max",
        min=0,
        max=limits.comparison_latency_ratio_limit,
        help="How many times as long its median may take; 0: any time.",
    ),
]
_Probation = Annotated[
    float,
    typer.Option(
        "--probation",
        metavar="SECONDS",
        min=0,
        max=limits.probation_seconds_max,
        show_default=False,
        help="After it was activated, as with `models activate`.",
    ),
]
_CALLS = limits.comparison_calls_default
_FAILED, _AGREEMENT = limits.comparison_failed_max, limits.comparison_agreement_min
_LATENCY = limits.comparison_latency_ratio_max


@connected
def canary(
    target: Target,
    name: ModelName,
    version: _Version,
    percent: Annotated[float, typer.Option("--percent", min=0.001, max=100, help="Share of the calls.")] = 5.0,
    calls: _Calls = _CALLS,
    seconds: _Seconds = 0.0,
    by_rule: _ByRule = False,
    failed_max: _Failed = _FAILED,
    agreement_min: _Agreement = _AGREEMENT,
    latency_max: _Latency = _LATENCY,
    probation: _Probation = 0.0,
    as_json: Json = False,
) -> None:
    """Let a version answer a share of the calls that name none. A call that it can't answer gets the active version's.

    Example: appliance models canary iris 1.3.0 --percent 5 --calls 500 --by-rule
    """
    _begin(
        target, as_json, "MODE_CANARY", name=name, version=version, percent=percent, calls=calls, seconds=seconds,
        by_rule=by_rule, failed_max=failed_max, agreement_min=agreement_min, latency_ratio_max=latency_max,
        probation_seconds=probation,
    )  # fmt: skip


@connected
def shadow(
    target: Target,
    name: ModelName,
    version: _Version,
    percent: Annotated[float, typer.Option("--percent", min=0.001, max=100, help="Share of the calls.")] = 100.0,
    calls: _Calls = _CALLS,
    seconds: _Seconds = 0.0,
    by_rule: _ByRule = False,
    failed_max: _Failed = _FAILED,
    agreement_min: _Agreement = _AGREEMENT,
    latency_max: _Latency = _LATENCY,
    probation: _Probation = 0.0,
    as_json: Json = False,
) -> None:
    """Give a version copies of the calls, when there is room for them. Its answers are compared, and go to nobody.

    Example: appliance models shadow iris 1.3.0
    """
    _begin(
        target, as_json, "MODE_SHADOW", name=name, version=version, percent=percent, calls=calls, seconds=seconds,
        by_rule=by_rule, failed_max=failed_max, agreement_min=agreement_min, latency_ratio_max=latency_max,
        probation_seconds=probation,
    )  # fmt: skip


@connected
def compare(target: Target, name: ModelName, as_json: Json = False) -> None:
    """Show how a model's candidate compares with its active version, or how the last comparison ended.

    Example: appliance models compare iris
    """
    from appliance.cli.client import Client
    from appliance.pb.appliance.v1.admin_pb2 import ShowComparisonRequest

    with Client(target) as client, client.failures():
        answer = client.admin.ShowComparison(ShowComparisonRequest(name=name), timeout=client.timeout or 30)
    _show(answer, as_json)


@connected
def promote(target: Target, name: ModelName, as_json: Json = False) -> None:
    """End a comparison and make the candidate the active version.

    Example: appliance models promote iris
    """
    _end(target, name, True, as_json)


@connected
def abandon(target: Target, name: ModelName, as_json: Json = False) -> None:
    """End a comparison and unload the candidate; it stays stored.

    Example: appliance models abandon iris
    """
    _end(target, name, False, as_json)


def _begin(target: Target, as_json: bool, mode: str, **fields: Any) -> None:
    from appliance.pb.appliance.v1.admin_pb2 import BeginComparisonRequest

    request = BeginComparisonRequest(mode=BeginComparisonRequest.Mode.Value(mode), **fields)
    _work(target, lambda c: c.admin.BeginComparison(request, timeout=c.timeout), as_json)


def _end(target: Target, name: str, promotes: bool, as_json: bool) -> None:
    from appliance.pb.appliance.v1.admin_pb2 import EndComparisonRequest

    request = EndComparisonRequest(name=name, promote=promotes)
    _work(target, lambda c: c.admin.EndComparison(request, timeout=c.timeout), as_json)


def _work(target: Target, call: Callable[[Client], Any], as_json: bool) -> None:
    from appliance.cli.client import Client
    from appliance.cli.progress import Progress, follow

    with Client(target) as client, Progress() as progress, client.failures():
        last: Any = follow(call(client), progress)
    _show(last, as_json)


def _show(answer: ComparisonResponse, as_json: bool) -> None:
    from appliance.cli.messages import document

    output.emit(document(answer), as_json, lambda: print_comparison(answer))
