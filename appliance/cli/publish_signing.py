"""Signing by several people: a request out, signatures back, and taking over what others have published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.cli.options import Json
from appliance.cli.publish_session import DEFAULT_FOLDER, Folder, NoPush, PassphraseFile, finish, opened, write_out

_Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to; default: standard output.")]
_Request = Annotated[Path, typer.Argument(metavar="REQUEST", show_default=False, help="The request's file.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def request(
    output_file: _Output = None,
    discard: Annotated[bool, typer.Option("--discard", help="Forget the change that waits.")] = False,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Write the change that waits for signatures into a file, to be carried to those who sign.

    Example: appliance publish request -o request.json
    """
    with opened(folder) as session:
        data = session.publisher.request()
        if discard:
            session.publisher.workspace.drop_pending()
    if not discard:
        write_out(output_file, data)


def sign(
    request_file: _Request,
    output_file: _Output = None,
    folder: Folder = DEFAULT_FOLDER,
    passphrase_file: PassphraseFile = None,
    yes: _Yes = False,
) -> None:
    """Show what a request changes, compared with this folder's metadata, and sign it with the keys of this folder.

    Example: appliance publish sign request.json -o mine.sig --folder ./mine
    """
    with opened(folder, passphrase_file) as session:
        from appliance.publish.release import requests

        checked = session.publisher.check_request(requests.read_file(request_file))
        for line in checked.words:
            output.note(line)
        if not yes and not typer.confirm("Sign this?", err=True):
            raise CommandFailed(ExitCode.REFUSED, "not signed")
        data = session.publisher.sign(checked)
    write_out(output_file, data)


def combine(
    request_file: _Request,
    signatures: Annotated[list[Path], typer.Argument(metavar="SIGNATURES...", show_default=False)],
    folder: Folder = DEFAULT_FOLDER,
    no_push: NoPush = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Add signatures to a request; when they are enough it becomes current, and goes to the registry.

    Example: appliance publish combine request.json anna.sig ben.sig
    """
    with opened(folder, passphrase_file) as session:
        from appliance.publish.release import requests

        checked = session.publisher.check_request(requests.read_file(request_file))
        files = [(path.name, requests.read_file(path)) for path in signatures]
        finish(session, session.publisher.combine(checked, files), as_json, push=not no_push)


def fetch(
    root: Annotated[Path | None, typer.Option(help="The root to begin with, in a folder without metadata.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Take over the registry's metadata, when somebody else has published; what was here is set aside.

    Example: appliance publish fetch --root 1.root.json --folder ./mine
    """
    with opened(folder) as session:
        newer = session.take_over(root)
        name = session.registry.name
    text = f"metadata taken over from {name}" if newer else f"this folder has what {name} has"
    output.emit({"registry": name, "changed": newer}, as_json, lambda: output.say(text))
