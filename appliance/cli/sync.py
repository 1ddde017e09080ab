"""`appliance sync ...`: what comes from the registry, and when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli import output
from appliance.cli.options import Json, Target, connected

if TYPE_CHECKING:
    from appliance.cli.client import Client
    from appliance.pb.appliance.v1.admin_pb2 import PlanSyncResponse, SyncResponse

app = typer.Typer(help="See, plan, start, pause, resume and limit what comes from the registry.")

_COLUMNS: list[tuple[str, output.Justify]] = [
    ("MODEL", "left"),
    ("VERSION", "left"),
    ("STATE", "left"),
    ("TO FETCH", "right"),
    ("WHY", "left"),
]
_OFFLINE = "offline:"
_LOOK_SECONDS = 0.1
_LOOK_SECONDS_MAX = 60.0
# Of a line's state.
MARKS = {"refused": "!", "failed": "!", "waiting": "~", "installing": "~"}


@app.command()
@connected
def status(target: Target, as_json: Json = False) -> None:
    """Show what the registry has for this machine, what of it is installed, and why the rest is not.

    The exit status is 5 when the last poll failed. Example: appliance sync status
    """
    from appliance.cli.exit_codes import ExitCode

    if _asked(target, "UNSPECIFIED", as_json).error:
        raise typer.Exit(ExitCode.UNAVAILABLE)


@app.command()
@connected
def now(target: Target, as_json: Json = False) -> None:
    """Ask the registry now instead of at the next poll. Returns at once; see `appliance sync status`.

    Example: appliance sync now
    """
    _asked(target, "NOW", as_json)


@app.command()
@connected
def pause(target: Target, as_json: Json = False) -> None:
    """Fetch and install nothing until resumed, also across restarts. What runs goes on.

    Example: appliance sync pause
    """
    _asked(target, "PAUSE", as_json)


@app.command()
@connected
def resume(target: Target, as_json: Json = False) -> None:
    """Go on after a pause, beginning with a poll.

    Example: appliance sync resume
    """
    _asked(target, "RESUME", as_json)


@app.command()
@connected
def plan(
    target: Target,
    cached: Annotated[bool, typer.Option("--cached", help="Plan with what the last poll found; ask nobody.")] = False,
    as_json: Json = False,
) -> None:
    """Show what the next poll would do: what comes, from where, how many bytes, and what goes. Nothing of it is done.

    The exit status is 5 when the registry cannot be asked. Example: appliance sync plan
    """
    from appliance.cli.client import Client
    from appliance.cli.exit_codes import ExitCode
    from appliance.cli.messages import document
    from appliance.pb.appliance.v1.admin_pb2 import PlanSyncRequest, SyncResponse

    with Client(target) as client, client.failures():
        state = SyncResponse() if cached else _looked(client)
        answer = client.admin.PlanSync(PlanSyncRequest(), timeout=client.timeout)
    output.emit(document(answer), as_json, lambda: _print_plan(answer, state.error))
    if state.error:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _looked(client: Client) -> SyncResponse:
    """The state after the registry has been asked; what is under way already is not waited for."""
    from appliance.pb.appliance.v1.admin_pb2 import SyncRequest

    def asked(wish: str) -> SyncResponse:
        request = SyncRequest(wish=SyncRequest.Wish.Value(f"WISH_{wish}"))
        return client.admin.Sync(request, timeout=client.timeout)

    before = asked("UNSPECIFIED")
    if before.doing or before.registry == _OFFLINE:
        return before
    state, deadline = asked("LOOK"), time.monotonic() + (client.timeout or _LOOK_SECONDS_MAX)
    while state.polled_ms == before.polled_ms and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        state = asked("UNSPECIFIED")
    return state


def _print_plan(answer: PlanSyncResponse, error: str) -> None:
    if error:
        output.say(f"the registry could not be asked: {output.line(error)}")
    known = f"as of {output.moment(answer.polled_ms)}" if answer.polled_ms else "as it was before the last restart"
    output.say(f"from {output.line(answer.source)}, {known}:")
    for removal in answer.removals:
        output.say(f"  remove   {removal.line} {removal.version}, to make room for {removal.room_for}")
    for install in answer.installs:
        what = "activate" if install.activate else "store only"
        size = f"fetch {output.size(install.fetch_bytes)}" if install.fetch_bytes else "nothing to fetch"
        output.say(f"  install  {install.line} {install.version}: {size}, {what}; {output.line(install.why)}")
    for line in answer.lines:
        rest = f": {output.line(line.reason)}" if line.reason else ""
        output.say(f"  leave    {line.line} {line.version}, {line.state}{rest}")
    if not (answer.installs or answer.removals or answer.lines):
        output.say("  nothing: the registry has no releases for this machine")


@app.command()
@connected
def limit(
    target: Target,
    kib_s: Annotated[int, typer.Argument(metavar="KIB_S", min=0, help="KiB a second; 0: as much as there is.")],
    as_json: Json = False,
) -> None:
    """Fetch at most so much a second, from this moment on and until the daemon's next start.

    After that registry.bandwidth_kib_s counts again. Example: appliance sync limit 2048
    """
    _asked(target, "UNSPECIFIED", as_json, kib_s)


def _asked(target: Target, wish: str, as_json: bool, limit_kib_s: int | None = None) -> SyncResponse:
    from appliance.cli.client import Client
    from appliance.cli.messages import document
    from appliance.pb.appliance.v1.admin_pb2 import SyncRequest

    request = SyncRequest(wish=SyncRequest.Wish.Value(f"WISH_{wish}"), limit_kib_s=limit_kib_s)
    with Client(target) as client, client.failures():
        answer = client.admin.Sync(request, timeout=client.timeout)
    output.emit(document(answer), as_json, lambda: _print(answer))
    return answer


def _print(answer: SyncResponse) -> None:
    if not answer.registry:
        output.say("no registry is configured: see [registry] in the configuration file")
        return
    output.say(f"registry {output.line(answer.registry)}{', paused' if answer.paused else ''}")
    output.say(_when(answer))
    if answer.limit_kib_s:
        output.say(f"fetches at most {output.size(answer.limit_kib_s * 1024)} a second")
    if answer.doing:
        part = f", {output.size(answer.done_bytes)} of {output.size(answer.total_bytes)}" if answer.total_bytes else ""
        output.say(f"now {output.line(answer.doing)}{part}")
    for alarm in answer.alarms:
        output.say(f"ALARM: {output.line(alarm)}")
    if answer.lines:
        output.say("")
        rows = [
            [
                line.line,
                line.version or "-",
                MARKS.get(line.state, "") + line.state,
                output.size(line.fetch_bytes) if line.fetch_bytes else "-",
                output.line(line.reason),
            ]
            for line in answer.lines
        ]
        output.table(_COLUMNS, rows)


def _when(answer: SyncResponse) -> str:
    if answer.registry == _OFFLINE:
        last = "nothing is polled: appliance bundle import brings releases"
    elif answer.error:
        last = f"the last poll, {output.moment(answer.polled_ms)}, failed: {output.line(answer.error)}"
    else:
        last = f"polled {output.moment(answer.polled_ms)}" if answer.polled_ms else "not polled yet"
    coming = "" if answer.paused or not answer.next_ms else f"; next poll {output.moment(answer.next_ms)}"
    fresh = f"; its word is good until {output.moment(answer.fresh_until_ms)}" if answer.fresh_until_ms else ""
    return f"{last}{coming}{fresh}"
