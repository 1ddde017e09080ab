"""`appliance setup`: certificates, the address, networks, the registry; from questions or from flags."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import Json

if TYPE_CHECKING:
    from appliance.setup.layout import Layout

app = typer.Typer(invoke_without_command=True)


class TlsChoice(str, Enum):
    """Who shows a certificate: both sides, the server alone, nobody."""

    mutual = "mutual"
    server = "server"
    off = "off"


ConfigDir = Annotated[
    Path | None, typer.Option("--config-dir", help="The configuration's folder; default: /etc/inference-appliance.")
]
_FILES, _REGISTRY, _HOW = "The organisation's certificates", "Registry", "How"


@app.callback()
def setup(
    context: typer.Context,
    address: Annotated[
        str | None, typer.Option("--address", help="Where clients connect: 0.0.0.0:8001 is every network of the box.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="A network of clients, such as 10.1.0.0/16, or any; none forgets earlier ones."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A further name or address that clients use; repeat it.")
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option("--client", help="Make a client's key and certificate; repeat it.")
    ] = None,
    tls: Annotated[
        TlsChoice | None,
        typer.Option(
            "--tls", help="Who shows a certificate; default: mutual, and off where no other machine connects."
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="PEM, the server's own first, then its chain.", rich_help_panel=_FILES),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="PEM of its key, without a passphrase.", rich_help_panel=_FILES)
    ] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            "--client-ca", help="PEM of who signs clients' certificates; default: this box.", rich_help_panel=_FILES
        ),
    ] = None,
    server_ca: Annotated[
        Path | None,
        typer.Option("--server-ca", help="PEM of who signed the server's, for clients.", rich_help_panel=_FILES),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry", help="Where models come from: https://HOST, or offline:.", rich_help_panel=_REGISTRY
        ),
    ] = None,
    registry_prefix: Annotated[
        str | None,
        typer.Option("--registry-prefix", help="What its names begin with: plant/north.", rich_help_panel=_REGISTRY),
    ] = None,
    registry_ca: Annotated[
        Path | None,
        typer.Option("--registry-ca", help="PEM of who signed its certificate.", rich_help_panel=_REGISTRY),
    ] = None,
    registry_credentials: Annotated[
        Path | None,
        typer.Option("--registry-credentials", help="A file as skopeo login writes it.", rich_help_panel=_REGISTRY),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", help="The publisher's ROOT.json, to install next.", rich_help_panel=_REGISTRY),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Replace the server's certificate and key that are there.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: flags, and what held before.", rich_help_panel=_HOW)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.", rich_help_panel=_HOW)
    ] = False,
    config_dir: ConfigDir = None,
    unit_dir: Annotated[
        Path | None,
        typer.Option(
            "--unit-dir", help="The unit's folder of drop-ins; default: the service's own.", rich_help_panel=_HOW
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set up this box: certificates, address, networks, registry.

    Asks at a terminal, or takes flags. Makes an authority of this box with
    certificates for the server and for clients, or takes your organisation's;
    writes conf.d/50-setup.toml and the unit's drop-in; says what to do next.
    Safe to run again: what is right stays as it is, keys above all.

    Example: appliance setup --address 0.0.0.0:8001 --allow 10.1.0.0/16
    """
    from appliance.setup.answers import Given

    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    given = Given(
        address, tuple(allow or ()), tls.value if tls else None, tuple(name or ()), certificate, key, client_ca, server_ca,
        tuple(client or ()), registry, registry_prefix, registry_ca, registry_credentials, trust, renew,
    )  # fmt: skip
    from appliance.cli import setup_run

    setup_run.run(given, config_dir, unit_dir, ask=not (yes or as_json), dry_run=dry_run, as_json=as_json)


@app.command()
def client(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the box is to know the client by.")],
    write_to: Annotated[
        Path | None, typer.Option("--output", help="The folder to make; default: clients/NAME in the configuration's.")
    ] = None,
    pkcs12: Annotated[
        bool, typer.Option("--pkcs12", help="NAME.p12 as well, for browsers and key stores; asks for a passphrase.")
    ] = False,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="Its first line is the passphrase of NAME.p12.")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Make a new key and certificate for a client.")] = False,
    config_dir: ConfigDir = None,
    as_json: Json = False,
) -> None:
    """Make a client's key and certificate, in a folder to carry to it.

    Beside them lies what the client verifies the box with. Good for 397 days;
    it can't be taken back before it ends, so keep the folder from others.

    Example: appliance setup client press-line-2
    """
    from appliance.cli import setup_page, setup_run
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.setup import files
    from appliance.setup.answers import check_client_name

    check_client_name(name)
    layout = _layout(config_dir)
    setup_run.check_signs_clients(layout)
    folder = write_to.absolute() if write_to else layout.client(name)
    if (folder / f"{name}.key").exists() and not renew:
        raise CommandFailed(ExitCode.REFUSED, f"{folder}/{name}.key is there: give --renew to replace it")
    passphrase = _passphrase(passphrase_file) if pkcs12 or passphrase_file else b""
    with setup_run.may_write(folder):
        written = files.write_client(layout, name, setup_run.now(), passphrase, folder)
    where = setup_run.where(layout)
    document = {"name": name, "folder": str(folder), "files": list(map(str, written))}
    output.emit(document, as_json, lambda: setup_page.client(name, folder, written, where))


@app.command()
def renew(
    due: Annotated[bool, typer.Option("--due", help="Only when it ends within 30 days: for a timer, or cron.")] = False,
    new_key: Annotated[bool, typer.Option("--new-key", help="With a new key; the old one stays as .bak.")] = False,
    config_dir: ConfigDir = None,
    as_json: Json = False,
) -> None:
    """Make a new certificate of the server, before the old one ends.

    For the same names and over the same key: clients need nothing new. A reload
    takes it up without dropping a call.

    Example: appliance setup renew && systemctl reload inference-appliance
    """
    from appliance.cli import setup_page, setup_run
    from appliance.setup import files, plan, reading

    layout = _layout(config_dir)
    present, now = files.look(layout), setup_run.now()
    names = reading.names_of(present.certificate) if present.certificate else ()
    decided = plan.renewal(present, names, now, due_only=due, new_key=new_key)
    written = files.execute(decided, layout, now)
    after = files.look(layout).certificate
    until = after.not_valid_after_utc if after else now
    document: dict[str, Any] = {
        "changed": bool(written),
        "files": list(map(str, written)),
        "good_until": until.isoformat(),
    }
    output.emit(document, as_json, lambda: setup_page.renewed(written, until, layout))


def _layout(config_dir: Path | None) -> "Layout":
    from appliance.setup.layout import layout

    return layout(config_dir, None)


def _refuse_options(context: typer.Context) -> None:
    """`appliance setup --address x client y` would leave the address out without a word."""
    from appliance.cli.exit_codes import CommandFailed, ExitCode

    given = [each for each in context.params if str(context.get_parameter_source(each)).endswith("COMMANDLINE")]
    if given:
        flag = "--" + given[0].replace("_", "-")
        below = context.invoked_subcommand
        raise CommandFailed(ExitCode.USAGE, f"{flag} before {below} has no effect: write appliance setup {below} ...")


def _passphrase(file: Path | None) -> bytes:
    """Of the PKCS #12 file: from a file's first line, or asked twice."""
    import sys

    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.setup import reading

    if file is not None:
        text = reading.read(file).partition(b"\n")[0].strip()
    elif sys.stdin.isatty():
        text = str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)).encode()
    else:
        raise CommandFailed(
            ExitCode.USAGE, "--pkcs12 asks for a passphrase: without a terminal, --passphrase-file FILE"
        )
    if not text:
        raise CommandFailed(ExitCode.INVALID_INPUT, "the passphrase is empty, which would leave the key open to all")
    return text
