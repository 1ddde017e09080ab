"""What `appliance doctor` finds out about certificates: when they end, whom they are for, and who can read their keys."""

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from appliance import credentials, limits
from appliance.address import parse_address
from appliance.cli.checks import Check
from appliance.config import Config
from appliance.config_file import DEFAULT_PATH, Loaded
from appliance.errors import ApplianceError
from appliance.setup import reading
from appliance.setup.certificates import day
from appliance.setup.layout import Layout

_RENEW = "`appliance setup renew`, or a new one of your organisation's; then systemctl reload inference-appliance"
_NEW = "get a new one from whoever runs it"
_CLOCK = "set the clock (timedatectl) if it is wrong"


class _File(NamedTuple):
    """``every``: all certificates in it are needed (a chain); else one that is valid may do (authorities)."""

    name: str
    path: str
    every: bool
    advice: str


def check_certificates(loaded: Loaded, now: datetime.datetime) -> Iterator[Check]:
    """The clock that they are judged by, each file of certificates, and the keys that nobody else looks at."""
    config = loaded.config
    files = list(_files(config))
    found = [(file, _read(Path(file.path))) for file in files]
    yield from check_clock([Path(file.path) for file in files], now)
    for file, certificates in found:
        if certificates:
            yield _times(file, certificates, now)
    yield from _names(config, next((c for file, c in found if file.path == config.server.tls.certificate), []))
    yield from _keys(loaded)


def check_clock(files: Sequence[Path], now: datetime.datetime) -> Iterator[Check]:
    """Nothing is said of a clock that may be right: it can't have been set when it is behind what was written by it."""
    written = [(path, _written(path)) for path in files]
    latest = max((when for _, when in written), default=0.0)
    # A day: files that were unpacked in another time zone.
    if now.timestamp() < latest - 86_400:
        path = next(path for path, when in written if when == latest)
        when_text = day(datetime.datetime.fromtimestamp(latest, datetime.timezone.utc))
        yield Check("clock", "bad", f"it says {day(now)}, but {path} was written on {when_text}", _CLOCK)
    elif now.timestamp() < limits.setup_clock_earliest_s:
        yield Check("clock", "bad", f"it says {day(now)}, which cannot be", _CLOCK)


def _files(config: Config) -> Iterator[_File]:
    """Those that can be read: what systemd hands to the service can't, and what is missing other checks tell."""
    tls, registry = config.server.tls, config.registry
    for file in (
        _File("server's certificate", tls.certificate, True, _RENEW),
        _File("clients' authority", tls.client_ca, False, _NEW + ", and new certificates for clients"),
        _File("certificate for registries", registry.certificate, True, _NEW),
        _File("registry's authority", registry.ca, False, _NEW),
    ):
        if file.path and not credentials.named(file.path):
            yield file


def _read(path: Path) -> list[x509.Certificate]:
    try:
        return reading.certificates(reading.read(path), path)
    except ApplianceError:
        return []


def _times(file: _File, certificates: Sequence[x509.Certificate], now: datetime.datetime) -> Check:
    """By the certificate that ends first where all are needed, by the one that ends last where one may do."""
    choose: Callable[..., x509.Certificate] = min if file.every else max
    decisive = choose(certificates, key=lambda each: each.not_valid_after_utc)
    why = reading.not_valid(decisive, now) or next(
        filter(None, (reading.not_valid(each, now) for each in certificates if file.every)), ""
    )
    if why:
        return Check("certificate", "bad", f"{file.name}, {file.path}, {why}", f"{file.advice}; {_CLOCK}")
    end = decisive.not_valid_after_utc
    days = (end - now).days
    said = f"{file.name} is good until {day(end)}"
    if days < limits.certificate_warn_days:
        return Check("certificate", "warn", f"{said}: {days} days ({file.path})", file.advice)
    gone = [each for each in certificates if reading.not_valid(each, now)]
    if gone:
        names = ", ".join(map(reading.subject, gone))
        return Check("certificate", "warn", f"{file.path} holds some that are not valid: {names}", "take them out")
    return Check("certificate", "ok", said)


def _names(config: Config, certificates: Sequence[x509.Certificate]) -> Iterator[Check]:
    host = parse_address(config.server.address).host
    if not certificates or host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        return
    names = reading.names_of(certificates[0])
    if not reading.covers(names, host):
        shown = ", ".join(names[:8]) or "no name at all"
        yield Check(
            "certificate",
            "warn",
            f"server's certificate is for {shown}, not for {host} of server.address",
            "fine if clients use one of these; else `appliance setup --name` adds one",
        )


def _keys(loaded: Loaded) -> Iterator[Check]:
    """Secrets that others can read, and a key that is another certificate's; the server's own is check_tls's."""
    registry = loaded.config.registry
    own = [path for path in (registry.key, registry.credentials) if path and not credentials.named(path)]
    for path in own:
        try:
            loose = credentials.exposed(path)
        except OSError as error:
            yield Check("secrets", "bad", f"{path}: {error.strerror}", "correct [registry]")
            continue
        if loose:
            yield Check("secrets", "bad", f"others may read or change {path}", credentials.mend(path))
    if registry.key in own and not credentials.named(registry.certificate):
        yield from _fit(Path(registry.certificate), Path(registry.key))
    folder = (loaded.files[0] if loaded.files else DEFAULT_PATH).parent
    authority = Layout(folder, None).authority_key
    try:
        if authority.stat().st_mode & 0o077:
            found = f"others may read {authority}, and sign clients' certificates with it"
            yield Check("secrets", "bad", found, f"chmod 600 {authority}; make a new authority if others did")
    except OSError:  # there is none, or only root may look
        return


def _fit(certificate: Path, key: Path) -> Iterator[Check]:
    try:
        chain = reading.certificates(reading.read(certificate), certificate)
        fits = reading.fits(chain[0], reading.private_key(reading.read(key), key))
    except ApplianceError as error:
        yield Check("secrets", "bad", error.message, "correct [registry]")
        return
    if not fits:
        yield Check("secrets", "bad", f"{key} does not belong to {certificate}", "correct [registry]")


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
