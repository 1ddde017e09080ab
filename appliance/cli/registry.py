"""`appliance registry ...`: whose signatures count on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli import output
from appliance.cli.options import Json, Target, connected

if TYPE_CHECKING:
    from appliance.pb.appliance.v1.admin_pb2 import TrustClockResponse, TrustRootResponse

app = typer.Typer(help="Say whose signatures count on this machine.")

# Root metadata have some kB; the daemon refuses what is larger than it reads.
_ROOT_BYTES_MAX = 1024 * 1024
_OUTCOMES = {
    "installed": "installed: releases that these keys vouch for may run here",
    "unchanged": "unchanged: this root is installed already",
    "next": "installed, as the next root of the same publisher",
    "replaced": "installed instead of another publisher's, whose releases don't count any more",
}


@app.command()
@connected
def trust(
    target: Target,
    root: Annotated[Path, typer.Argument(metavar="ROOT.json", help="The publisher's root of trust.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask: the fingerprints were compared already.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the root of another publisher.")] = False,
    as_json: Json = False,
) -> None:
    """Install the root of trust: show its keys' fingerprints, ask, and let their holder's releases run here.

    Compare the fingerprints with those that the publisher told you by another way than this file came.

    Example: appliance registry trust /media/stick/1.root.json
    """
    from appliance.cli.client import Client
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.cli.messages import document
    from appliance.pb.appliance.v1.admin_pb2 import TrustRootRequest

    data = _read(root)
    with Client(target) as client, client.failures():
        seen = client.admin.TrustRoot(TrustRootRequest(root=data), timeout=client.timeout)
        if not yes:
            if as_json:
                raise CommandFailed(ExitCode.USAGE, "--json asks nobody: give --yes as well, or look first without it")
            _print(seen)
            if not typer.confirm("Do these fingerprints come from the publisher?"):
                raise CommandFailed(ExitCode.REFUSED, "nothing was installed")
        request = TrustRootRequest(root=data, install=True, force=force)
        done = client.admin.TrustRoot(request, timeout=client.timeout)
    output.emit(document(done), as_json, lambda: output.say(_OUTCOMES.get(done.outcome, done.outcome)))


@app.command()
@connected
def clock(
    target: Target,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the floor, and judge by the machine's clock.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask: the machine's clock is right.")] = False,
    as_json: Json = False,
) -> None:
    """Show which time expiry is judged by: the machine's clock, and never earlier than a floor.

    The floor is the latest time that metadata were judged by, so a clock that is set back makes nothing fresh again.
    When the clock was ahead for a while, the floor may be, too: --reset forgets it.

    Example: appliance registry clock --reset
    """
    from appliance.cli.client import Client
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.cli.messages import document
    from appliance.pb.appliance.v1.admin_pb2 import TrustClockRequest

    if reset and as_json and not yes:
        raise CommandFailed(ExitCode.USAGE, "--json asks nobody: give --yes as well, or look first without --reset")
    with Client(target) as client, client.failures():
        answer = client.admin.TrustClock(TrustClockRequest(reset=reset and yes), timeout=client.timeout)
        if reset and not yes:
            _print_clock(answer)
            output.say("Without the floor, metadata that expired before it may count as good again.")
            if not typer.confirm("Is the machine's clock right?"):
                raise CommandFailed(ExitCode.REFUSED, "the floor was left as it is")
            answer = client.admin.TrustClock(TrustClockRequest(reset=True), timeout=client.timeout)
    output.emit(document(answer), as_json, lambda: _print_clock(answer))


def _print_clock(answer: TrustClockResponse) -> None:
    if answer.forgotten_ms:
        output.say(f"forgotten: the floor of {output.moment(answer.forgotten_ms)}; the registry is asked anew")
    output.say(f"machine's clock  {output.moment(answer.machine_ms)}")
    output.say(f"floor            {output.moment(answer.floor_ms) or 'none yet'}")
    for sentence in _follows(answer):
        output.say(sentence)


def _follows(answer: TrustClockResponse) -> list[str]:
    """What follows from the times, in lines that fit a terminal."""
    behind_ms = answer.judged_ms - max(0, answer.machine_ms)
    said = ["Expiry is judged by the machine's clock."]
    if behind_ms > 0:
        said = [
            f"Expiry is judged by the floor: the machine's clock is {output.duration(behind_ms)} behind it.",
            "If that clock is wrong, set it. If it is right now and was ahead once,",
            "forget the floor: appliance registry clock --reset",
        ]
    if not answer.fresh_until_ms:
        return [*said, "No metadata of the publisher were verified since the daemon began."]
    until = output.moment(answer.fresh_until_ms)
    if answer.judged_ms < answer.fresh_until_ms:
        return [*said, f"The publisher's metadata are good until {until}."]
    said += [f"The publisher's metadata expired at {until}.", "Nothing new is installed until newer ones come."]
    if answer.machine_ms < answer.fresh_until_ms:
        said.append("By the machine's clock they would be good.")
    return said


def _read(path: Path) -> bytes:
    from appliance.cli.exit_codes import CommandFailed, ExitCode

    try:
        with path.open("rb") as file:
            data = file.read(_ROOT_BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path}: {error.strerror}") from None
    if len(data) > _ROOT_BYTES_MAX:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path} is larger than any root of trust")
    return data


def _print(root: TrustRootResponse) -> None:
    output.say(f"root of trust, version {root.version}, good until {output.moment(root.expires_ms)}")
    for role in root.roles:
        output.say(f"{output.line(role.role)}: {role.threshold} of {len(role.fingerprints)} keys")
        for fingerprint in role.fingerprints:
            # Sixteen groups of four are what a person can compare, and fit a terminal.
            groups = [fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4)]
            output.say("  " + output.line(" ".join(groups[:8])))
            output.say("  " + output.line(" ".join(groups[8:])))
