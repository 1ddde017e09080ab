"""The organisation's certificate, key and authorities: checked before they are taken, because afterwards clients fail."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509

from appliance import credentials
from appliance.setup import reading
from appliance.setup.answers import Files
from appliance.setup.reading import refuse


class Taken(NamedTuple):
    """The files' bytes; None for what was not given."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    server_ca: bytes | None


def take(files: Files, must_cover: Sequence[str], now: datetime.datetime, *, said: bool) -> Taken:
    """Reads and checks all of them. Raises InvalidArgument that names the file, what is wrong, and what to do.

    ``must_cover``: names that clients use; ``said``: they were named, and are not a guess from this machine's name.
    """
    certificate, key = reading.read(files.certificate), reading.read(files.key)
    client_ca = reading.read(files.client_ca) if files.client_ca else None
    server_ca = reading.read(files.server_ca) if files.server_ca else None
    chain = reading.certificates(certificate, files.certificate)
    own = reading.private_key(key, files.key)
    if why := credentials.exposed(str(files.key)):
        refuse(why)
    if not reading.fits(chain[0], own):
        refuse(f"{files.key} does not belong to {files.certificate}: give the key with which it was requested")
    for each in chain:
        reading.check_times(each, files.certificate, now)
    above = reading.certificates(server_ca, files.server_ca) if server_ca is not None and files.server_ca else []
    if wrong := reading.chain_problem(chain, above):
        refuse(f"{files.certificate} {wrong}")
    if not reading.serves(chain[0]):
        refuse(f"{files.certificate} is no server's certificate: its extended key usage lacks serverAuth")
    _check_names(chain[0], files, must_cover, said=said)
    if client_ca is not None and files.client_ca:
        _check_authorities(reading.certificates(client_ca, files.client_ca), files, now)
    return Taken(certificate, key, client_ca, server_ca)


def _check_names(certificate: x509.Certificate, files: Files, must_cover: Sequence[str], *, said: bool) -> None:
    names = reading.names_of(certificate)
    missing = [name for name in must_cover if not reading.covers(names, name)]
    if not missing:
        return
    # A short name of the machine, where the certificate has the long one.
    if not said and any(name.partition(".")[0] == each for name in names for each in missing):
        return
    shown = ", ".join(names[:8]) or "no name at all"
    what = "" if said else "; if clients use another name, say it with --name"
    refuse(f"{files.certificate} is for {shown}, not for {', '.join(missing)}: clients would refuse it{what}")


def _check_authorities(found: Sequence[x509.Certificate], files: Files, now: datetime.datetime) -> None:
    assert files.client_ca is not None
    for certificate in found:
        if not reading.is_authority(certificate):
            refuse(
                f"{files.client_ca} holds {reading.subject(certificate)}, which is no authority: --client-ca is the "
                "certificate that signed your clients' certificates"
            )
        reading.check_times(certificate, files.client_ca, now)
