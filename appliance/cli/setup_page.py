"""What `appliance setup` prints: what it did, and what to do next, in 80 columns."""

from __future__ import annotations

import datetime
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli import output
from appliance.setup.certificates import day
from appliance.setup.layout import CONFIG_DIR, Layout
from appliance.setup.plan import IssueClient, IssueServer, MakeAuthority, Plan, SetAccess, Step, Write

if TYPE_CHECKING:
    from appliance.cli.setup_run import Decided

_WIDTH = 80
_RELOAD = "systemctl reload inference-appliance"


def planned(plan: Plan, place: Layout) -> None:
    """What is about to be done."""
    output.say("This will be done:")
    _list(_sentence(step, place) for step in plan.steps)


def finished(decided: Decided, place: Layout, document: dict[str, Any]) -> None:
    """What was done, what stayed, what to know, and what comes next."""
    steps = decided.plan.steps
    if not steps:
        output.say("Nothing to do: everything is as it should be.")
    else:
        output.say("Would be done:" if document["dry_run"] else "Done:")
        _list(_sentence(step, place) for step in steps)
    if decided.plan.kept:
        output.say("Left as it is:")
        _list(decided.plan.kept)
    if decided.notes:
        output.say("Note:")
        _list(decided.notes)
    if document["dry_run"] or not steps:
        return
    output.say("Next, on this machine:")
    for each in document["next"]:
        _command(each)
    answers = decided.answers
    made = [step.name for step in steps if isinstance(step, IssueClient)]
    if made:
        output.say("Carry to the client, by a way that nobody else can read:")
        _list(str(place.client(name)) for name in made)
        first_call(made[0], target(answers.names[0], answers.address.port), place.client(made[0]))


def client(name: str, folder: Path, written: Sequence[Path], where: str) -> None:
    """What `setup client` made."""
    output.say("Done:")
    _list(map(str, written))
    output.say("Carry the folder to the client, by a way that nobody else can read.")
    first_call(name, where, folder)


def renewed(written: Sequence[Path], until: datetime.datetime, place: Layout) -> None:
    """What `setup renew` made."""
    if not written:
        output.say(f"Nothing to do: the server's certificate is good until {day(until)}.")
        return
    output.say(f"The server's certificate is new, and good until {day(until)}:")
    _list(map(str, written))
    output.say("Next, on this machine:")
    _command(_RELOAD if place.unit_dir else "kill -HUP PID-OF-THE-DAEMON")


def first_call(name: str, where: str, folder: Path) -> None:
    """What a client types or writes, in the folder that it was given."""
    ca = (folder / "ca.pem").exists()
    output.say(f"A first call there, in the folder {folder.name}:")
    authority = "-cacert ca.pem " if ca else ""
    _command(f"grpcurl {authority}-cert {name}.pem -key {name}.key {where} list")
    output.say("or in Python, with tritonclient[grpc]:")
    lines = [
        "import tritonclient.grpc as triton",
        "box = triton.InferenceServerClient(",
        f'    "{where}", ssl=True, root_certificates={repr("ca.pem") if ca else None},',
        f'    private_key="{name}.key", certificate_chain="{name}.pem")',
        "print(box.is_server_live())",
    ]
    for line in lines:
        output.say(f"  {line}".replace("'", '"'))


def commands(decided: Decided, place: Layout) -> list[str]:
    """What an operator types next on this machine, in this order; nothing where nothing was to be done."""
    found: list[str] = []
    if not decided.plan.steps:
        return found
    option = "" if place.config_dir == CONFIG_DIR else f" --config {shlex.quote(str(place.main))}"
    texts = [step for step in decided.plan.steps if isinstance(step, Write) and not step.access.for_service]
    if place.unit_dir is None:
        found.append(f"appliance serve{option}")
    elif texts:
        found += ["systemctl daemon-reload", "systemctl restart inference-appliance"]
    else:
        found.append(_RELOAD)
    if decided.answers.trust is not None:
        found.append(f"appliance registry trust {shlex.quote(str(decided.answers.trust.absolute()))}")
    found.append(f"appliance doctor{option}")
    return found


def target(host: str, port: int) -> str:
    """host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def facts(step: Step) -> dict[str, Any]:
    """A step for programs; never a file's content, which may be a key."""
    if isinstance(step, Write):
        return {"path": str(step.path), "mode": f"{step.access.mode:04o}"}
    if isinstance(step, SetAccess):
        return {"path": str(step.path), "mode": f"{step.access.mode:04o}"}
    if isinstance(step, IssueServer):
        return {"names": list(step.names), "new_key": step.new_key, "why": step.why}
    return {"name": step.name}


def _sentence(step: Step, place: Layout) -> str:
    if isinstance(step, MakeAuthority):
        return f"the authority of this box, in {place.authority.parent}: keep a copy of that folder safe"
    if isinstance(step, IssueServer):
        why = f" ({step.why})" if step.why else ""
        key = " and its key" if step.new_key else ""
        return f"the server's certificate{key}{why}, for {', '.join(step.names)}"
    if isinstance(step, IssueClient):
        return f"key and certificate of the client {step.name}, in {place.client(step.name)}"
    if isinstance(step, SetAccess):
        return f"the mode of {step.path} ({step.access.mode:04o})"
    return f"{step.path}"


def _list(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        wrapped = textwrap.wrap(
            output.line(sentence), _WIDTH - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        output.say("\n".join(f"{'- ' if not index else '  '}{each.strip()}" for index, each in enumerate(wrapped)))


def _command(text: str) -> None:
    """Goes on in the next line where it is long, as a shell reads it."""
    lines = textwrap.wrap(
        text, _WIDTH - 4, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    output.say(" \\\n".join(lines))
