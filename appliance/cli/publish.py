"""`appliance publish ...`: keys, packing, releasing and signing, at headquarters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import output, publish_fleet, publish_session, publish_signing, publish_view
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.cli.options import Json
from appliance.cli.publish_session import DEFAULT_FOLDER, Folder, NoPush, PassphraseFile, finish, opened, progress

app = typer.Typer(help="Sign models and release them to a registry (headquarters' side).")
line_app = typer.Typer(help="Model lines, each signed by keys of its own.", no_args_is_help=True)
app.add_typer(line_app, name="line")

_Line = Annotated[str, typer.Argument(metavar="LINE", show_default=False, help="A model's name.")]
_Version = Annotated[str, typer.Argument(metavar="VERSION", show_default=False)]
_Prefix = Annotated[str, typer.Option(help="Where in the registry everything goes.")]
_RegistryUrl = Annotated[str, typer.Option(help="https://HOST, or a folder; publish.toml keeps it.")]
_KeyFiles = Annotated[
    list[Path] | None, typer.Option("--key", help="A public key (.pub) of somebody else; may be repeated.")
]


@app.command()
def init(
    folder: Folder = DEFAULT_FOLDER,
    prefix: _Prefix = "appliance",
    registry: _RegistryUrl = "",
    root_key: _KeyFiles = None,
    root_keys: Annotated[int, typer.Option(help="Root keys in all, other people's among them.")] = 3,
    root_threshold: Annotated[int, typer.Option(help="How many of them must sign.")] = 2,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a publisher's folder: keys, and the first signed metadata.

    Example: appliance publish init --prefix acme --registry https://registry.acme.example
    """
    with publish_session.libraries():
        from appliance.publish.release import operations, session
        from appliance.publish.release.settings import RegistrySettings, Settings, Thresholds

    thresholds = Thresholds(root=root_threshold)
    session.create(folder, Settings(prefix=prefix, registry=RegistrySettings(url=registry), thresholds=thresholds))
    with opened(folder, passphrase_file) as publisher:
        outcome = operations.init(publisher.publisher, root_key or (), root_keys)
        if not as_json:
            publish_view.show_fingerprints(publisher.fingerprints())
        finish(publisher, outcome, as_json, push=False)


@app.command()
def key(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="root, targets, snapshot, timestamp or models.LINE.")],
    folder: Folder = DEFAULT_FOLDER,
    prefix: _Prefix = "appliance",
    registry: _RegistryUrl = "",
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a key, in a new folder where there is none, and the file that others put into a role with --key or --new.

    Example: appliance publish key root --folder ./mine
    """
    with publish_session.libraries():
        from appliance.publish.release import keys, session
        from appliance.publish.release.settings import RegistrySettings, Settings

    session.create(folder, Settings(prefix=prefix, registry=RegistrySettings(url=registry)))
    with opened(folder, passphrase_file) as publisher:
        keyid, path = publisher.create_key(role)
    document = {"role": role, "keyid": keyid, "public_file": str(path)}
    output.emit(
        document, as_json, lambda: output.say(f"{role}: {keys.fingerprint(keyid)}\nHand on the public file: {path}")
    )


@line_app.command("add")
def line_add(
    line: _Line,
    key_file: _KeyFiles = None,
    folder: Folder = DEFAULT_FOLDER,
    no_push: NoPush = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Let a model line be released: by a new key here, or by other people's keys.

    Example: appliance publish line add iris
    """
    with opened(folder, passphrase_file) as session:
        from appliance.publish.release import operations

        finish(session, operations.line_add(session.publisher, line, key_file or ()), as_json, push=not no_push)


@app.command()
def pack(
    model: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="Holds model.toml.")],
    replace: Annotated[bool, typer.Option("--replace", help="In place of other contents, not yet released.")] = False,
    folder: Folder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Check a model folder as a box would, add model card and ML-BOM, and put it into the publisher's layout.

    Example: appliance publish pack ./iris-1.2.0
    """
    with opened(folder) as session, progress(f"packing {model}") as tick:
        plan = session.pack(model, replace=replace, tick=tick)
    document = {
        "line": plan.spec.name,
        "version": plan.spec.version,
        "digest": plan.artefact.digest,
        "bytes": plan.bytes,
        "files": len(plan.layers),
        "made": sorted(plan.made),
    }
    contents = f"{len(plan.layers)} files, {output.size(plan.bytes)}, {plan.artefact.digest}"
    text = f"{plan.spec.name} {plan.spec.version}: {contents}"
    output.emit(document, as_json, lambda: output.say(text))


@app.command()
def push(
    line: Annotated[str, typer.Argument(metavar="[LINE", show_default=False)] = "",
    version: Annotated[str, typer.Argument(metavar="VERSION]", show_default=False)] = "",
    folder: Folder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Bring the registry up to date with this folder; with LINE VERSION only send that packed version.

    Example: appliance publish push
    """
    if line and not version:
        raise CommandFailed(ExitCode.USAGE, "push: name a version, too; see appliance publish push --help")
    with opened(folder) as session:
        name = session.registry.name
        if line:
            with progress(f"sending {line} {version} to {name}") as tick:
                sent = session.push(line, version, tick)
            document = {"registry": name, "digest": sent.digest, "blobs": sent.blobs, "bytes": sent.bytes}
            text = f"{name}: {line} {version}, {sent.blobs} blobs sent, {output.size(sent.bytes)}"
        else:
            files = publish_session.publish(session)
            document = {"registry": name, "sent": list(files)}
            text = f"{name}: {len(files)} metadata files sent" if files else f"{name} has everything"
    output.emit(document, as_json, lambda: output.say(text))


@app.command()
def release(
    line: _Line,
    version: _Version,
    channel: Annotated[list[str] | None, typer.Option(help="Who gets it; may be repeated.")] = None,
    hardware: Annotated[list[str] | None, typer.Option(help="As in cuda+x86_64; may be repeated.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="May be repeated; default: everywhere.")] = None,
    wave: Annotated[str, typer.Option(help="Shares of the boxes in percent, as in 1,5,25,100.")] = "",
    wave_hours: Annotated[float, typer.Option(help="Hours from one wave to the next.")] = 24.0,
    minimum_appliance: Annotated[str | None, typer.Option(help="The oldest version of the software.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    no_push: NoPush = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Release a packed version: sign it, and bring it and the metadata to the registry.

    Example: appliance publish release iris 1.2.0 --channel candidate --wave 1,5,25,100 --wave-hours 12
    """
    with opened(folder, passphrase_file) as session:
        from appliance.publish.release import operations, waves

        terms = operations.Terms(
            channels=tuple(channel) if channel else None,
            hardware=tuple(hardware) if hardware else None,
            regions=tuple(region) if region else None,
            minimum_appliance=minimum_appliance,
            waves=waves.parse(wave),
            wave_hours=wave_hours,
        )
        outcome = operations.release(session.publisher, session.layout, line, version, terms)
        finish(session, outcome, as_json, push=not no_push)


@app.command()
def withdraw(
    line: _Line,
    version: _Version,
    folder: Folder = DEFAULT_FOLDER,
    no_push: NoPush = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Take a release back: no box installs it any more.

    Example: appliance publish withdraw iris 1.2.0
    """
    with opened(folder, passphrase_file) as session:
        from appliance.publish.release import operations

        finish(session, operations.withdraw(session.publisher, line, version), as_json, push=not no_push)


@app.command()
def refresh(
    role: Annotated[list[str] | None, typer.Argument(metavar="[ROLE]...", help="Renew these, too.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    no_push: NoPush = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Renew timestamp and snapshot before they expire (for a timer), or other roles by name.

    Example: appliance publish refresh --passphrase-file /etc/publisher/passphrase
    """
    with opened(folder, passphrase_file) as session:
        from appliance.publish.release import operations

        finish(session, operations.refresh(session.publisher, role or ()), as_json, push=not no_push)


@app.command()
def rotate(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="root, targets, snapshot, timestamp or models.LINE.")],
    old: Annotated[str, typer.Option(help="Beginning of the id of the key that goes; default: the oldest.")] = "",
    new: Annotated[Path | None, typer.Option(help="Public key that comes; default: one is made here.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    no_push: NoPush = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Put a new key into a role in place of an old one; a new root is signed by the old keys and the new.

    Example: appliance publish rotate timestamp
    """
    with opened(folder, passphrase_file) as session:
        from appliance.publish.release import operations

        finish(session, operations.rotate(session.publisher, role, old, new), as_json, push=not no_push)


@app.command()
def status(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Show what is released where, what expires when, and which signatures are missing.

    Example: appliance publish status
    """
    with opened(folder) as session:
        found = session.status()
    publish_view.show(found, as_json)


app.command()(publish_signing.request)
app.command()(publish_signing.sign)
app.command()(publish_signing.combine)
app.command()(publish_signing.fetch)
app.command()(publish_fleet.fleet)
