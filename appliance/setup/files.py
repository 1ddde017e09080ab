"""What is there, and doing what was decided: durable writes, each file with its mode and, for root, its group."""

import contextlib
import datetime
import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.errors import PermissionDenied
from appliance.osutil import durable
from appliance.setup import certificates, reading
from appliance.setup.certificates import Signer
from appliance.setup.layout import SERVICE, Layout
from appliance.setup.plan import (
    PUBLIC,
    SECRET,
    SERVICE_SECRET,
    Access,
    IssueClient,
    IssueServer,
    MakeAuthority,
    Plan,
    Present,
    SetAccess,
    Write,
)
from appliance.setup.reading import refuse


def look(layout: Layout) -> Present:
    """Reads what is there. Raises InvalidArgument for what can't be read or isn't what its name says."""
    try:
        return _look(layout)
    except OSError as error:
        refuse(f"cannot read {error.filename or layout.config_dir}: {error.strerror}; run it as root (sudo)")


def _look(layout: Layout) -> Present:
    paths = [layout.main, layout.settings, layout.certificate, layout.key, layout.client_ca, layout.server_ca]
    paths += [layout.drop_in] if layout.drop_in else []
    files = {path: data for path in paths if (data := _bytes(path)) is not None}
    authority = _certificate(layout.authority)
    if authority is not None:
        _check_authority_key(layout, authority)
    elif layout.authority_key.exists() and layout.certificate.exists():
        # Without a certificate of the server it is only what a cut-off run has left, and is gone on with.
        refuse(
            f"{layout.authority} is not there, its key is: put it back (each client's folder has a copy), or move "
            "the key away"
        )
    certificate, key = _certificate(layout.certificate), files.get(layout.key)
    return Present(
        files,
        authority,
        certificate,
        None if key is None or certificate is None else reading.fits(certificate, reading.private_key(key, layout.key)),
        frozenset(_clients(layout)),
        dict(_loose(layout)),
    )


def execute(plan: Plan, layout: Layout, now: datetime.datetime) -> tuple[Path, ...]:
    """Does the steps in their order; the files that were written. Raises PermissionDenied where it may not write."""
    written: list[Path] = []
    try:
        for step in plan.steps:
            written += _do(step, layout, now)
    except OSError as error:
        place = error.filename2 or error.filename or layout.config_dir
        # A step more or less is no harm: what was begun is ended by the next run.
        raise PermissionDenied(
            f"cannot write {place}: {error.strerror}; run it as root (sudo), or name another folder with --config-dir. "
            f"{len(written)} files were written before, and the same command goes on from there",
            reason="SETUP",
        ) from None
    return tuple(written)


def service_missing() -> bool:
    """Whether the service's group is missing, so that it can't be given its key. Only root could."""
    return os.geteuid() == 0 and _group() is None


def signer(layout: Layout) -> Signer:
    """The authority of this box with its key. Raises InvalidArgument where there is none, or the key can't be read."""
    certificate = _certificate(layout.authority)
    if certificate is None:
        refuse(f"there is no authority of this box in {layout.authority.parent}: run `appliance setup` first")
    key = reading.private_key(reading.read(layout.authority_key), layout.authority_key)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not reading.fits(certificate, key):
        refuse(f"{layout.authority_key} is not the key of {layout.authority}: put the right one back from a backup")
    return Signer(certificate, key)


def write_client(
    layout: Layout, name: str, now: datetime.datetime, passphrase: bytes = b"", folder: Path | None = None
) -> tuple[Path, ...]:
    """A client's folder: NAME.key, NAME.pem, ca.pem and, with a passphrase, NAME.p12."""
    authority = signer(layout)
    made = certificates.issue_client(authority, name, now)
    folder = folder or layout.client(name)
    ca = _server_authorities(layout, authority)
    files: list[tuple[Path, bytes, Access]] = [
        (folder / f"{name}.key", certificates.key_pem(made.key), SECRET),
        (folder / f"{name}.pem", certificates.certificate_pem(made.certificate), PUBLIC),
    ]
    if ca:
        files.append((folder / "ca.pem", b"".join(map(certificates.certificate_pem, ca)), PUBLIC))
    if passphrase:
        data = certificates.as_pkcs12(name, made, ca, passphrase)
        files.append((folder / f"{name}.p12", data, SECRET))
    _folder(folder, 0o700)
    for path, data, access in files:
        _write(path, data, access)
    return tuple(path for path, _, _ in files)


def _do(step: Any, layout: Layout, now: datetime.datetime) -> list[Path]:
    if isinstance(step, MakeAuthority):
        made = certificates.make_authority(step.name, now, _ec_key(layout.authority_key))
        # The key first: a certificate without its key would look like an authority that lost it.
        return [
            _write(layout.authority_key, certificates.key_pem(made.key), SECRET),
            _write(layout.authority, certificates.certificate_pem(made.certificate), PUBLIC),
        ]
    if isinstance(step, IssueServer):
        return _issue_server(step, layout, now)
    if isinstance(step, IssueClient):
        return list(write_client(layout, step.name, now))
    if isinstance(step, Write):
        if step.keep:
            _keep(step.path, SECRET if step.access.for_service else step.access)
        return [_write(step.path, step.data, step.access)]
    if isinstance(step, SetAccess):
        _set_access(step.path, step.access)
        return [step.path]
    raise TypeError(step)


def _issue_server(step: IssueServer, layout: Layout, now: datetime.datetime) -> list[Path]:
    key = None if step.new_key else _ec_key(layout.key)
    made = certificates.issue_server(signer(layout), step.names, now, key)
    written = []
    if key is None:
        _keep(layout.key, SECRET)
        written.append(_write(layout.key, certificates.key_pem(made.key), SERVICE_SECRET))
    _keep(layout.certificate)
    written.append(_write(layout.certificate, certificates.certificate_pem(made.certificate), PUBLIC))
    return written


def _ec_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """A key of our kind that is there; another kind was put there by hand, and stays as .bak."""
    if (data := _bytes(path)) is None:
        return None
    found = reading.private_key(data, path)
    return found if isinstance(found, ec.EllipticCurvePrivateKey) else None


def _keep(path: Path, access: Access = PUBLIC) -> None:
    """The file before, beside the new one; of older ones none."""
    if (data := _bytes(path)) is not None:
        _write(path.with_name(f"{path.name}.bak"), data, access)


def _write(path: Path, data: bytes, access: Access) -> Path:
    _folder(path.parent)
    group = _group() if access.for_service else None
    durable.write(path, data, mode=_mode(access, group))
    if group is not None:
        os.chown(path, -1, group)
    return path


def _folder(path: Path, mode: int = 0o755) -> None:
    """Makes it, and what is missing above it for all to read, whatever root's umask says: the service must get in."""
    if not path.is_dir():
        _folder(path.parent)
        durable.mkdir(path, mode)
        path.chmod(mode)


def _set_access(path: Path, access: Access) -> None:
    group = _group() if access.for_service else None
    path.chmod(_mode(access, group))
    if group is not None:
        os.chown(path, -1, group)


def _mode(access: Access, group: int | None) -> int:
    """Without the service's group, a right of the group's would be somebody else's."""
    return access.mode & ~0o070 if access.for_service and group is None else access.mode


def _group() -> int | None:
    """The service's, where there is one and we may give files to it."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return grp.getgrnam(SERVICE).gr_gid
    return None


def _loose(layout: Layout) -> Iterator[tuple[Path, Access]]:
    for path, access in ((layout.authority_key, SECRET), (layout.key, SERVICE_SECRET)):
        with contextlib.suppress(FileNotFoundError):
            found, group = path.stat(), _group() if access.for_service else None
            wrong_group = group is not None and found.st_gid != group
            if stat.S_IMODE(found.st_mode) != _mode(access, group) or wrong_group:
                yield path, access


def _clients(layout: Layout) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        for folder in layout.client("x").parent.iterdir():
            if (folder / f"{folder.name}.pem").exists() and (folder / f"{folder.name}.key").exists():
                yield folder.name


def _server_authorities(layout: Layout, authority: Signer) -> list[x509.Certificate]:
    """What a client verifies the server with: the box's own authority, or what the organisation has named."""
    certificate = _certificate(layout.certificate)
    if certificate is None or reading.signed_by(certificate, authority.certificate):
        return [authority.certificate]
    data = _bytes(layout.server_ca)
    return reading.certificates(data, layout.server_ca) if data else []


def _check_authority_key(layout: Layout, authority: x509.Certificate) -> None:
    """Only root can read it: who can't, hears of it when it is to sign."""
    if not layout.authority_key.exists():
        refuse(f"{layout.authority_key} is not there, {layout.authority} is: put the key back, or move both away")
    if os.access(layout.authority_key, os.R_OK):
        key = reading.private_key(reading.read(layout.authority_key), layout.authority_key)
        if not reading.fits(authority, key):
            refuse(f"{layout.authority_key} is not the key of {layout.authority}: put the right one back")


def _certificate(path: Path) -> x509.Certificate | None:
    data = _bytes(path)
    return reading.certificates(data, path)[0] if data is not None else None


def _bytes(path: Path) -> bytes | None:
    return reading.read(path) if path.exists() else None
