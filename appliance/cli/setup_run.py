"""`appliance setup`, one run: read what is there, ask, decide, do, say."""

import contextlib
import datetime
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from appliance import credentials
from appliance.address import parse_address
from appliance.cli import output, setup_page
from appliance.cli import service_drop_in as drop_ins
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.config_file import Loaded, load, settings_of
from appliance.errors import FailedPrecondition, PermissionDenied
from appliance.setup import files, organisation, plan, reading, settings
from appliance.setup.answers import Answers, Before, Given, complete
from appliance.setup.layout import SERVICE, Layout, layout
from appliance.setup.plan import Plan, Present

_MAIN = "# The configuration. What `appliance setup` has set is in conf.d/50-setup.toml.\n"


class Decided(NamedTuple):
    """All that is to be done, and what to say of it."""

    answers: Answers
    plan: Plan
    notes: tuple[str, ...]


def run(
    given: Given, config_dir: Path | None, unit_dir: Path | None, *, ask: bool, dry_run: bool, as_json: bool
) -> None:
    """The whole of it. Raises ApplianceError, CommandFailed."""
    place = layout(config_dir, unit_dir)
    present = files.look(place)
    before = _before(place, present)
    ask = ask and sys.stdin.isatty()
    if ask:
        from appliance.cli import setup_questions

        given = setup_questions.ask(given, before, socket.gethostname(), with_unit=place.unit_dir is not None)
    decided = decide(given, before, present, place)
    if ask and decided.plan.steps and not dry_run:
        setup_page.planned(decided.plan, place)
        if not typer.confirm("Do this?", default=True):
            raise CommandFailed(ExitCode.REFUSED, "nothing was changed")
    written = () if dry_run else files.execute(decided.plan, place, now())
    document = _document(decided, place, written, dry_run=dry_run)
    output.emit(document, as_json, lambda: setup_page.finished(decided, place, document))


def decide(given: Given, before: Before, present: Present, place: Layout) -> Decided:
    """From answers to steps; reads the files that were named, and writes nothing."""
    host = socket.gethostname()
    answers = complete(given, before, host, with_unit=place.unit_dir is not None)
    moment = now()
    taken = (
        organisation.take(answers.organisation, answers.must_cover, moment, said=bool(given.names))
        if answers.organisation
        else None
    )
    loads = drop_ins.loaded_by(_drop_in_before(place, present))
    answers = _with_credentials(answers, place, loads)
    _check_registry_files(answers)
    _check_trust(given.trust)
    values = settings.settings(
        answers, place, before.settings, own_clients=plan.own_clients(answers, present, taken, place)
    )
    texts = [(place.settings, settings.as_toml(values))]
    if place.main not in present.files:
        texts.insert(0, (place.main, _MAIN))
    loaded = load(place.main, pending={path: text.encode() for path, text in texts})
    notes = _notes(answers, loaded, place, values)
    if place.drop_in is not None:
        drop_in = _drop_in(answers, loaded, loads)
        notes += drop_in.notes
        texts.append((place.drop_in, drop_ins.render(drop_in, [str(file) for file in loaded.files])))
    decided = plan.decide(answers, present, taken, place, texts, host, moment)
    return Decided(answers, decided, tuple(notes))


def now() -> datetime.datetime:
    """This machine's clock."""
    return datetime.datetime.now(datetime.timezone.utc)


def where(place: Layout) -> str:
    """What a client connects to, by what is set up: host:port."""
    said = settings_of(place.settings).get("server.address", "127.0.0.1:8001")
    certificate = files.look(place).certificate
    names = reading.names_of(certificate) if certificate else ("localhost",)
    return setup_page.target(names[0] if names else "localhost", parse_address(str(said)).port)


def check_signs_clients(place: Layout) -> None:
    """Raises FailedPrecondition where the server would not know what this box signs."""
    said = settings_of(place.settings).get("server.tls.client_ca", "")
    if said == str(place.client_ca):
        raise FailedPrecondition(
            f"clients are those that {said} has signed: your organisation makes their certificates", reason="SETUP"
        )
    if said != str(place.authority):
        raise FailedPrecondition(
            "the server asks clients for no certificate: run `appliance setup --tls mutual` first", reason="SETUP"
        )


@contextlib.contextmanager
def may_write(folder: Path) -> Iterator[None]:
    """What the system refuses becomes a sentence. Raises PermissionDenied."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise PermissionDenied(
            f"cannot write {place}: {error.strerror}; run it as root (sudo), or name another folder", reason="SETUP"
        ) from None


def _before(place: Layout, present: Present) -> Before:
    networks = drop_ins.allowed_by(_drop_in_before(place, present)) or ()
    names = reading.names_of(present.certificate) if present.certificate else ()
    return Before(settings_of(place.settings), networks, names)


def _drop_in_before(place: Layout, present: Present) -> str:
    data = present.files.get(place.drop_in, b"") if place.drop_in else b""
    return data.decode(errors="replace")


def _with_credentials(answers: Answers, place: Layout, loads: dict[str, str]) -> Answers:
    """Passwords stay root's: with a unit, systemd hands them to the service."""
    path = str(answers.settings.get("registry.credentials", ""))
    if not path or place.drop_in is None:
        return answers
    loads["registry.credentials"] = path
    given = {**answers.settings, "registry.credentials": f"{credentials.PREFIX}registry.credentials"}
    _check_private(Path(path))
    return answers._replace(settings=given)


def _check_registry_files(answers: Answers) -> None:
    if ca := answers.settings.get("registry.ca"):
        path = Path(str(ca))
        for certificate in reading.certificates(reading.read(path), path):
            reading.check_times(certificate, path, now())
    path = Path(str(answers.settings.get("registry.credentials", "")))
    if path.is_absolute():
        reading.read(path)
        _check_private(path)


def _check_private(path: Path) -> None:
    try:
        why = credentials.exposed(str(path))
    except OSError as error:
        reading.refuse(f"cannot read {path}: {error.strerror}")
    if why:
        reading.refuse(why)


def _check_trust(root: Path | None) -> None:
    """The daemon looks closer; here only that it is not another file by mistake."""
    if root is None:
        return
    try:
        document = json.loads(reading.read(root))
        good = document["signed"]["_type"] == "root"
    except (ValueError, TypeError, KeyError, RecursionError):
        good = False
    if not good:
        reading.refuse(f"{root} is no root of trust: the publisher gives you one, named 1.root.json or so")


def _drop_in(answers: Answers, loaded: Loaded, loads: dict[str, str]) -> drop_ins.DropIn:
    gpu = "engines.providers" in loaded.origins or Path("/dev/nvidiactl").exists()
    try:
        return drop_ins.plan(loaded.config, answers.allow, gpu, loads, offer=False)
    except drop_ins.ClientsUnknownError as error:
        reading.refuse(f"missing: --allow, the networks of your clients: another file says server.address = {error}")
    except ValueError as error:
        reading.refuse(f"--allow: {error}")


def _notes(answers: Answers, loaded: Loaded, place: Layout, values: dict[str, object]) -> list[str]:
    origins = {key: loaded.origins[key] for key in values}
    found = [
        f"{origin} sets {key} as well, and is read later: that counts"
        for key, origin in origins.items()
        if origin != str(place.settings)
    ]
    if answers.tls == "off" and not answers.address.is_loopback:
        found.append("no TLS: everybody on these networks can read and send requests")
    nameless = {socket.gethostname(), "localhost", "127.0.0.1", "::1"}.issuperset(answers.names)
    if answers.tls != "off" and not answers.address.is_loopback and nameless:
        shown = ", ".join(answers.names)
        found.append(f"clients must connect to a name of the certificate ({shown}); --name adds one, or an address")
    if place.unit_dir is not None and answers.tls != "off" and files.service_missing():
        found.append(f"there is no group {SERVICE}: install the package, and run this again")
    if answers.organisation and answers.organisation.server_ca is None and answers.clients:
        found.append("clients' folders have no ca.pem: give --server-ca, or tell clients who signed the server's")
    return found


def _document(decided: Decided, place: Layout, written: tuple[Path, ...], *, dry_run: bool) -> dict[str, Any]:
    answers, steps = decided.answers, decided.plan.steps
    return {
        "changed": bool(written),
        "dry_run": dry_run,
        "address": str(answers.address),
        "tls": answers.tls,
        "names": list(answers.names),
        "allow": list(answers.allow),
        "settings": str(place.settings),
        "steps": [{"step": type(step).__name__, **setup_page.facts(step)} for step in steps],
        "kept": list(decided.plan.kept),
        "files": list(map(str, written)),
        "next": setup_page.commands(decided, place),
        "notes": list(decided.notes),
    }
