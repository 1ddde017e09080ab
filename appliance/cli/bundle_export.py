"""`appliance bundle export`: from a registry onto a stick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from appliance.cli import output, publish_session
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.cli.options import Json
from appliance.cli.publish_session import DEFAULT_FOLDER, Folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.publish.bundle.export import Carried
    from appliance.publish.release.settings import RegistrySettings

# Machines that are visited once a quarter still have to find it fresh.
_SHORT_DAYS = 14
_COLUMNS: list[tuple[str, output.Justify]] = [
    ("PREFIX", "left"),
    ("LINE", "left"),
    ("VERSION", "left"),
    ("CHANNELS", "left"),
    ("BYTES", "right"),
]


class _From(NamedTuple):
    """Where it comes from. ``roots``: whose signatures count, by prefix, where that is known."""

    source: Any
    prefixes: tuple[str, ...]
    roots: dict[str, bytes]


def export(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", show_default=False, help="Folder on the stick; made if needed.")
    ],
    registry: Annotated[
        str, typer.Option(help="https://HOST, or a folder; default: what publish.toml says.", show_default=False)
    ] = "",
    prefix: Annotated[
        list[str] | None, typer.Option(help="Where in it the releases are; may be repeated, one for each site.")
    ] = None,
    line: Annotated[
        list[str] | None, typer.Option(help="LINE, LINE:VERSION, or a pattern; may be repeated; default: all.")
    ] = None,
    channel: Annotated[str, typer.Option(help="Only what is released to it; default: all.", show_default=False)] = "",
    root: Annotated[
        Path | None, typer.Option(help="The root that the signatures are checked from; with one --prefix.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM of the registry's authorities, if not the system's.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM of our certificate for the registry.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM of its key.")] = None,
    credentials: Annotated[Path | None, typer.Option(help="A file as docker's config.json.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Put releases onto a stick, with all that a machine without a network needs to believe them.

    Run again, it adds other prefixes and brings what is there up to date. One that was cut off goes on where it was.

    Example: appliance bundle export /media/stick --registry https://registry.acme.example --prefix acme --line iris
    """
    with publish_session.libraries():
        from appliance.cli.progress import Progress
        from appliance.clock import SystemClock
        from appliance.publish.bundle import newer
        from appliance.publish.bundle.export import Wish, carry
        from appliance.publish.release.settings import RegistrySettings

    given = RegistrySettings(
        url=registry.removeprefix("layout:"),
        ca_file=_text(ca),
        client_certificate_file=_text(certificate),
        client_key_file=_text(key),
        credentials_file=_text(credentials),
    )
    found = _named(given, prefix) if registry else _of_publisher(folder, prefix)
    if root is not None:
        if len(found.prefixes) > 1:
            raise CommandFailed(ExitCode.USAGE, "--root is the root of one publisher: give one --prefix with it")
        found.roots[found.prefixes[0]] = _read_root(root)
    done = []
    for each in found.prefixes:
        trusted = found.roots.get(each)
        if trusted is None:
            trusted = newer.first_root(found.source, each)
            output.note(f"{each or 'the top'}: checked from the registry's own first root; --root names one you trust")
        wish = Wish(each, trusted, tuple(line or ()), channel)
        with Progress() as bar:
            done.append(carry(found.source, out, wish, SystemClock(), bar.show))
    document = {"folder": str(out), "prefixes": [_document(one) for one in done]}
    output.emit(document, as_json, lambda: _print(out, done))


def _text(path: Path | None) -> str:
    return str(path.absolute()) if path else ""


def _named(settings: RegistrySettings, prefixes: list[str] | None) -> _From:
    """A registry that was named on the command line."""
    from appliance.publish.release import connect
    from appliance.publish.release.settings import Settings

    if not prefixes:
        raise CommandFailed(ExitCode.USAGE, "--registry needs --prefix: where in it the releases are")
    registry = connect.registry(Settings(prefix=prefixes[0], registry=settings), Path.cwd())
    return _From(registry.source, tuple(dict.fromkeys(prefixes)), {})


def _of_publisher(folder: Path, prefixes: list[str] | None) -> _From:
    """The registry of a publisher's folder, whose own root counts for its own prefix."""
    with publish_session.opened(folder) as session:
        from appliance.publish.release import repository

        own, files = session.settings.prefix, session.publisher.workspace.files()
        versions = repository.root_versions(files)
        roots = {own: files[repository.file_name("root", versions[-1])]} if versions else {}
        return _From(session.registry.source, tuple(dict.fromkeys(prefixes or [own])), roots)


def _read_root(path: Path) -> bytes:
    from appliance import limits

    try:
        with path.open("rb") as file:
            return file.read(limits.tuf_root_bytes_max + 1)
    except OSError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path}: {error.strerror}") from None


def _document(carried: Carried) -> object:
    import msgspec

    return msgspec.to_builtins(carried)


def _print(out: Path, done: Sequence[Carried]) -> None:
    rows = [
        [one.prefix or "-", r.line, r.version, ",".join(r.channels), output.size(r.bytes)]
        for one in done
        for r in one.releases
    ]
    output.table(_COLUMNS, rows)
    output.say("")
    for one in done:
        output.say(
            f"{one.prefix or 'the top'}: good until {output.moment(one.fresh_until_s * 1000)}; after that no machine takes "
            f"anything new from it{_short(one)}"
        )
    output.say(f"{out} holds {output.size(done[-1].stick_bytes)}. On the machine: appliance bundle import FOLDER")


def _short(carried: Carried) -> str:
    import time

    if carried.fresh_until_s - time.time() > _SHORT_DAYS * 86_400:
        return ""
    return " (soon: expiry_days in publish.toml, then `appliance publish refresh`)"
