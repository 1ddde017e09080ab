"""`appliance store ...`: is what is stored whole, make it whole again, and throw away what nothing needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import Json, Target, connected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from appliance.cli.client import Client
    from appliance.pb.appliance.v1.admin_pb2 import GarbageReport, StoreProblem, StoreReport

app = typer.Typer(help="Check and repair the model store, and free what nothing needs.")


@app.command()
@connected
def check(target: Target, as_json: Json = False) -> None:
    """Read and hash everything that is stored, and name all that is damaged. Changes nothing; models go on serving.

    Exit status 0: sound; 10: damaged. Example: appliance store check
    """
    from appliance.pb.appliance.v1.admin_pb2 import CheckStoreRequest

    report = _asked(target, lambda c: c.admin.CheckStore(CheckStoreRequest(), timeout=c.timeout)).report
    _answer(report, as_json)


@app.command()
@connected
def repair(target: Target, as_json: Json = False) -> None:
    """Heal what is damaged: from what this disk still has, else from the registry; then check again.

    What is corrupt is set aside as .broken. Models that run go on serving. Exit status 0: sound now; 10: not all could
    be healed. Example: appliance store repair
    """
    from appliance.pb.appliance.v1.admin_pb2 import RepairStoreRequest

    report = _asked(target, lambda c: c.admin.RepairStore(RepairStoreRequest(), timeout=c.timeout)).report
    _answer(report, as_json)


@app.command()
@connected
def gc(
    target: Target,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be freed.")] = False,
    broken: Annotated[bool, typer.Option("--broken", help="Also delete what repairs have set aside.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what no stored version, nothing that should run and no download under way needs.

    Example: appliance store gc --dry-run
    """
    from appliance.cli.messages import document
    from appliance.pb.appliance.v1.admin_pb2 import CollectGarbageRequest

    request = CollectGarbageRequest(dry_run=dry_run, set_aside=broken)
    report = _asked(target, lambda c: c.admin.CollectGarbage(request, timeout=c.timeout)).report
    output.emit(document(report), as_json, lambda: _print_garbage(report))


def _asked(target: Target, call: Callable[[Client], Any]) -> Any:
    """One of the calls that answer with progress: its last answer."""
    from appliance.cli.client import Client
    from appliance.cli.progress import Progress, follow

    with Client(target) as client, Progress() as progress, client.failures():
        return follow(call(client), progress)


def _answer(report: StoreReport, as_json: bool) -> None:
    from appliance.cli.exit_codes import ExitCode
    from appliance.cli.messages import document

    sound = not report.problem_count
    output.emit({"sound": sound, **document(report)}, as_json, lambda: _print_report(report))
    if not sound:
        raise typer.Exit(ExitCode.DAMAGED)


def _print_report(report: StoreReport) -> None:
    _print_problems(report.healed, report.healed_count, "repaired")
    _print_problems(report.problems, report.problem_count, "damaged")
    if report.set_aside:
        output.say(
            f"set aside as .broken: {_count(report.set_aside, 'file')}, {output.size(report.set_aside_bytes)}; to delete:"
            " appliance store gc --broken"
        )
    verdict = f"damaged: {_count(report.problem_count, 'problem')}" if report.problem_count else "sound"
    read = output.size(report.bytes_read)
    output.say(f"{verdict}; {_count(report.versions, 'version')}, {_count(report.blobs, 'blob')}, {read} read")


def _print_problems(problems: Iterable[StoreProblem], total: int, word: str) -> None:
    count = 0
    for problem in problems:
        count += 1
        whose = [output.line(", ".join(problem.models))] if problem.models else []
        whose += [output.line(problem.file)] if problem.file else []
        whose += ["in use"] if problem.in_use else []
        about = f" ({'; '.join(whose)})" if whose else ""
        output.say(f"{word}: {output.line(problem.place)} {output.line(problem.wrong)}{about}")
        output.say(f"  {output.line(problem.todo)}")
    if total > count:
        output.say(f"{word}: {total - count} more")


def _print_garbage(report: GarbageReport) -> None:
    for item in report.items:
        output.say(f"{item.kind}  {output.line(item.place)}  {output.size(item.size_bytes)}")
    if report.item_count > len(report.items):
        output.say(f"and {report.item_count - len(report.items)} more")
    for sentence in report.kept:
        output.say(f"unused blobs are kept: {output.line(sentence)}")
    verb = "would be freed" if report.dry_run else "freed"
    output.say(f"{output.size(report.bytes_freed)} {verb}, {_count(report.item_count, 'item')}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
