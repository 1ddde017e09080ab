"""What a set-up does, decided without doing it: from the answers and what is there to a list of steps. Pure."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from appliance import limits
from appliance.setup import reading
from appliance.setup.answers import Answers
from appliance.setup.certificates import day
from appliance.setup.layout import Layout
from appliance.setup.organisation import Taken
from appliance.setup.reading import refuse


class Access(NamedTuple):
    """A file's mode, and whether the service's group gets it (only root can give it)."""

    mode: int
    for_service: bool = False


PUBLIC = Access(0o644)
SECRET = Access(0o600)
# Where there is no such group, only the owner may read: files.py takes the group's right away again.
SERVICE_SECRET = Access(0o640, for_service=True)


class Present(NamedTuple):
    """What is there. ``key_fits`` None: no key of the server; ``loose``: files with other modes than they should have."""

    files: Mapping[Path, bytes]
    authority: x509.Certificate | None = None
    certificate: x509.Certificate | None = None
    key_fits: bool | None = None
    clients: frozenset[str] = frozenset()
    loose: Mapping[Path, Access] = {}


class MakeAuthority(NamedTuple):
    """A new authority of this box."""

    name: str


class IssueServer(NamedTuple):
    """A certificate of the server, over the key that is there or a new one; ``why`` an old one is replaced."""

    names: tuple[str, ...]
    new_key: bool
    why: str


class IssueClient(NamedTuple):
    """A folder with a client's key, its certificate and what it verifies the server with."""

    name: str


class Write(NamedTuple):
    """A file's content; ``keep``: the one before stays beside it as .bak."""

    path: Path
    data: bytes
    access: Access = PUBLIC
    keep: bool = False


class SetAccess(NamedTuple):
    """A file that others could read, or the service couldn't."""

    path: Path
    access: Access


Step = MakeAuthority | IssueServer | IssueClient | Write | SetAccess


class Plan(NamedTuple):
    """Steps in the order in which what was cut off can be begun again; ``kept``: what is right as it is."""

    steps: tuple[Step, ...]
    kept: tuple[str, ...]


def decide(
    answers: Answers,
    present: Present,
    taken: Taken | None,
    layout: Layout,
    texts: Sequence[tuple[Path, str]],
    host: str,
    now: datetime.datetime,
) -> Plan:
    """``texts``: the files of settings, the drop-in among them, as they should be. Raises InvalidArgument."""
    steps: list[Step] = []
    kept: list[str] = []
    if answers.tls != "off":
        if own_authority(answers, present, taken, layout):
            _authority(steps, kept, present, host)
        _server(steps, kept, answers, present, taken, layout, now)
    for name in answers.clients:
        if name in present.clients:
            kept.append(f"{layout.client(name)} (anew: appliance setup client {name} --renew)")
        else:
            steps.append(IssueClient(name))
    steps += [SetAccess(path, access) for path, access in present.loose.items()]
    for path, text in texts:
        _text(steps, kept, present, path, text.encode())
    return Plan(tuple(steps), tuple(kept))


def own_authority(answers: Answers, present: Present, taken: Taken | None, layout: Layout) -> bool:
    """Whether the box's own authority signs something: the server's certificate, or clients'."""
    return own_clients(answers, present, taken, layout) or (taken is None and not foreign(present))


def own_clients(answers: Answers, present: Present, taken: Taken | None, layout: Layout) -> bool:
    """Whether clients' certificates are made here: unless the organisation has said once which authority signs them."""
    theirs = (taken is not None and taken.client_ca is not None) or layout.client_ca in present.files
    return answers.tls == "mutual" and not theirs


def foreign(present: Present) -> bool:
    """Whether the server's certificate was signed by somebody else than this box."""
    if present.certificate is None:
        return False
    return present.authority is None or not reading.signed_by(present.certificate, present.authority)


def renewal(present: Present, names: Sequence[str], now: datetime.datetime, *, due_only: bool, new_key: bool) -> Plan:
    """Of the server's certificate alone, for the names that it has. Raises InvalidArgument for one not of this box."""
    certificate = present.certificate
    if certificate is None or present.authority is None:
        refuse("there is no certificate of this box to renew: run `appliance setup` first")
    if foreign(present):
        refuse(
            "the server's certificate was not signed by this box: get a new one where it came from, and run "
            "`appliance setup --certificate FILE --key FILE --renew`"
        )
    left = certificate.not_valid_after_utc - now
    if due_only and left > datetime.timedelta(days=limits.certificate_warn_days):
        return Plan((), (f"the server's certificate is good until {day(certificate.not_valid_after_utc)}",))
    return Plan((IssueServer(tuple(names), new_key or present.key_fits is None, "renewed"),), ())


def _authority(steps: list[Step], kept: list[str], present: Present, host: str) -> None:
    if present.authority is None:
        steps.append(MakeAuthority(f"Inference Appliance CA of {host}"))
    else:
        kept.append(f"the authority of this box, until {day(present.authority.not_valid_after_utc)}")


def _server(
    steps: list[Step],
    kept: list[str],
    answers: Answers,
    present: Present,
    taken: Taken | None,
    layout: Layout,
    now: datetime.datetime,
) -> None:
    if taken is not None:
        _take(steps, kept, answers, present, taken, layout)
        return
    certificate = present.certificate
    if certificate is not None and foreign(present):
        if answers.renew:
            refuse("the server's certificate is not of this box: give the new one with --certificate and --key")
        kept.append("the organisation's certificate of the server")
        return
    if why := _why_anew(answers, present, now):
        # A key that is there is used, whatever became of its certificate.
        new_key = answers.renew or layout.key not in present.files
        steps.append(IssueServer(answers.names, new_key, "" if certificate is None else why))
    elif certificate is not None:
        kept.append(f"the server's certificate, until {day(certificate.not_valid_after_utc)}")


def _why_anew(answers: Answers, present: Present, now: datetime.datetime) -> str:
    """Why there must be another certificate of the server; "" when the one that is there will do."""
    certificate = present.certificate
    if certificate is None:
        return "there was none"
    if answers.renew:
        return "renewed, with a new key"
    if not present.key_fits:
        return "its key was not there" if present.key_fits is None else "its key was another's"
    if why := reading.not_valid(certificate, now):
        return f"the one before {why}"
    missing = [name for name in answers.names if not reading.covers(reading.names_of(certificate), name)]
    return f"the one before was not for {', '.join(missing)}" if missing else ""


def _take(steps: list[Step], kept: list[str], answers: Answers, present: Present, taken: Taken, layout: Layout) -> None:
    """The organisation's files become copies below tls/, which the service can read wherever the originals lie."""
    if present.files.get(layout.key) not in (None, taken.key) and not answers.renew:
        refuse(f"{layout.key} is there, and is another key: add --renew to replace it")
    for path, data, access in (
        (layout.server_ca, taken.server_ca, PUBLIC),
        (layout.client_ca, taken.client_ca, PUBLIC),
        (layout.key, taken.key, SERVICE_SECRET),
        (layout.certificate, taken.certificate, PUBLIC),
    ):
        if data is None:
            continue
        if present.files.get(path) == data:
            kept.append(str(path))
        else:
            steps.append(Write(path, data, access, keep=True))


def _text(steps: list[Step], kept: list[str], present: Present, path: Path, data: bytes) -> None:
    if present.files.get(path) == data:
        kept.append(str(path))
    else:
        steps.append(Write(path, data, keep=True))
