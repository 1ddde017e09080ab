"""`appliance models rollback`, and what the commands that change a model have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.cli import output
from appliance.cli.options import Json, ModelName, Target, connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.cli.client import Client


@connected
def rollback(target: Target, name: ModelName, as_json: Json = False) -> None:
    """Go back to the version that was active before, and quarantine the one that is active now.

    A quarantined version is activated again only by `appliance models activate MODEL VERSION --force`.

    Example: appliance models rollback iris
    """
    from appliance.pb.appliance.v1 import admin_pb2

    request = admin_pb2.RollbackModelRequest(name=name)
    change(target, lambda c: c.admin.RollbackModel(request, timeout=c.timeout), as_json, "rolled back")


def change(target: Target, call: Callable[[Client], Any], as_json: bool, outcome: str) -> None:
    """One of the calls that answer with progress."""
    from appliance.cli.client import Client
    from appliance.cli.progress import Progress, follow

    with Client(target) as client, Progress() as progress, client.failures():
        last = follow(call(client), progress)
    done(last, as_json, outcome)


def done(last: Any, as_json: bool, outcome: str, **more: int) -> None:
    """Prints how a change ended: ``outcome``, and the version's status where one is concerned."""
    from appliance.cli.messages import document

    model = last.status if last.HasField("status") else None

    def render() -> None:
        if model is None:
            output.say(outcome)
        else:
            output.say(f"{model.name} {model.version}: {outcome}; {model.state}{', active' if model.active else ''}")

    output.emit({"outcome": outcome, **more, "status": document(model) if model else None}, as_json, render)
