"""`appliance registry ...`: whose signatures count on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli import output
from appliance.cli.options import Json, Target, connected

if TYPE_CHECKING:
    from appliance.pb.appliance.v1.admin_pb2 import TrustRootResponse

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
