"""What the commands of `appliance publish` share: opening the folder, passphrases, and telling how a change went."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.exit_codes import CommandFailed, ExitCode, of_status
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.publish.release.publisher import Outcome
    from appliance.publish.release.session import Session

PASSPHRASE_VARIABLE = "APPLIANCE_PUBLISH_PASSPHRASE"  # noqa: S105 - a name
_PASSPHRASE_BYTES_MAX = 4096

Folder = Annotated[
    Path,
    typer.Option(
        "--folder", "-C", envvar="APPLIANCE_PUBLISHER", show_envvar=False, help="The publisher's working folder."
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help=f"Its first line opens the keys; else ${PASSPHRASE_VARIABLE}, else you are asked.",
    ),
]
NoPush = Annotated[bool, typer.Option("--no-push", help="Leave the registry as it is; `push` brings it up to date.")]
DEFAULT_FOLDER = Path("publisher")


@contextlib.contextmanager
def opened(folder: Path, passphrase_file: Path | None = None) -> Iterator[Session]:
    """The publisher's folder, for one command."""
    with libraries():
        from appliance.publish.release.session import Session

        with Session(folder, lambda name, new: passphrase(passphrase_file, name, new)) as session:
            yield session


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """Says what to install when a library of the publisher is missing."""
    try:
        yield
    except ImportError as error:
        raise CommandFailed(
            ExitCode.FAILED, f"publishing needs {error.name}: pip install 'inference-appliance[publish]'"
        ) from None


def passphrase(file: Path | None, name: str, new: bool) -> bytes:
    """Of the key ``name``: from a file, the environment, or the person at the terminal; a new one is asked for twice."""
    if file is not None:
        return _from_file(file)
    if given := os.environ.get(PASSPHRASE_VARIABLE):
        return os.fsencode(given)
    if not sys.stdin.isatty():
        raise CommandFailed(
            ExitCode.USAGE,
            f"a passphrase is needed for {name} and there is no terminal to ask: use --passphrase-file or "
            f"{PASSPHRASE_VARIABLE}",
        )
    # typer's own prompt asks first and hides afterwards: what is typed quickly would be shown.
    text = getpass.getpass(f"Passphrase for {name}: ")
    if new and getpass.getpass("Repeat it: ") != text:
        raise CommandFailed(ExitCode.INVALID_INPUT, "the two passphrases are not the same")
    return os.fsencode(text)


def _from_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened_file:
            if os.fstat(opened_file.fileno()).st_mode & 0o077:
                raise CommandFailed(ExitCode.DENIED, f"{file} can be read by others: chmod 600 it")
            return opened_file.readline(_PASSPHRASE_BYTES_MAX).rstrip(b"\r\n")
    except OSError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"passphrase file {file}: {error.strerror}") from None


def finish(session: Session, outcome: Outcome, as_json: bool, *, push: bool = True) -> None:
    """Brings a change that is current to the registry, and tells; one that waits says for whom."""
    sent: list[str] = []
    to_registry = push and outcome.done and bool(session.settings.registry.url)
    if to_registry:
        sent = publish(session)
    document: dict[str, Any] = {
        "changes": list(outcome.words),
        "current": outcome.done,
        "missing": [need._asdict() | {"missing": need.missing} for need in outcome.missing],
        "sent": sent,
    }

    def render() -> None:
        for line in outcome.words:
            if not line.startswith(" "):
                output.say(line)
        if to_registry:
            output.say(f"{session.registry.name}: {len(sent)} metadata files sent")
        elif outcome.done:
            output.say("Signed, and current in this folder. The registry gets it with: appliance publish push")
        for need in outcome.missing:
            output.say(f"Waits: {need.role} has {len(need.signed)} of {need.threshold} signatures of {need.by}.")
        if not outcome.done:
            output.say("Others sign it with: appliance publish request -o FILE; then sign, then combine")

    output.emit(document, as_json, render)


def publish(session: Session) -> list[str]:
    """Uploads what the registry lacks; a failure says that nothing that was signed is lost."""
    try:
        return session.publish()
    except ApplianceError as error:
        if error.reason == "REGISTRY_NEWER":
            raise
        raise CommandFailed(
            of_status(error.code.value),
            f"{error.message} (all is signed and kept in the folder: `appliance publish push` goes on from here)",
        ) from None


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[int], None]]:
    """Shows that something long goes on; what it gives is called with the bytes of each step."""
    from appliance.cli.progress import Progress

    with Progress() as bar:
        done = 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            bar.show("", done)

        bar.show(text)
        yield tick


def write_out(path: Path | None, data: bytes) -> None:
    """To a file, else to standard output."""
    if path is None:
        sys.stdout.write(data.decode())
        return
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path}: {error.strerror}") from None
