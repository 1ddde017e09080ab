"""What an operator wants, checked: from flags or questions, completed by what an earlier set-up has said. Pure."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from appliance import limits
from appliance.address import Address, parse_address
from appliance.setup.reading import refuse

# As a network: those of before are forgotten.
NO_NETWORK = "none"
Tls = Literal["mutual", "server", "off"]
# A folder's name, and a common name that reads the same everywhere.
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Files(NamedTuple):
    """The organisation's: certificate with its chain, key, the clients' authority, the server's authority."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    server_ca: Path | None = None


class Given(NamedTuple):
    """What flags or questions said; None and () where they said nothing."""

    address: str | None = None
    allow: tuple[str, ...] = ()
    tls: Tls | None = None
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    server_ca: Path | None = None
    clients: tuple[str, ...] = ()
    registry: str | None = None
    registry_prefix: str | None = None
    registry_ca: Path | None = None
    registry_credentials: Path | None = None
    trust: Path | None = None
    renew: bool = False


class Before(NamedTuple):
    """What holds already: settings by dotted key, networks of the drop-in, names in the server's certificate."""

    settings: Mapping[str, object]
    networks: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class Answers(NamedTuple):
    """Complete. ``names``: what the server's certificate must cover, of which clients use at least the first."""

    address: Address
    allow: tuple[str, ...]
    tls: Tls
    names: tuple[str, ...]
    must_cover: tuple[str, ...]
    organisation: Files | None
    clients: tuple[str, ...]
    settings: Mapping[str, object]
    trust: Path | None
    renew: bool


def complete(given: Given, before: Before, host: str, *, with_unit: bool) -> Answers:
    """All that is needed, on the machine called ``host``. Raises InvalidArgument that names every missing flag."""
    text = given.address if given.address is not None else before.settings.get("server.address")
    if text is None:
        refuse("missing: --address, where clients connect (0.0.0.0:8001 for all networks, 127.0.0.1:8001 for none)")
    try:
        address = parse_address(str(text))
    except ValueError as error:
        refuse(f"--address {str(text)[:80]}: {error}")
    kept = () if NO_NETWORK in given.allow else before.networks
    allow = tuple(dict.fromkeys(each for each in (*kept, *given.allow) if each != NO_NETWORK))
    if with_unit and not allow and not address.is_loopback:
        refuse(
            f"missing: --allow, the networks of your clients (10.1.0.0/16; any for all): others can reach {address}, and "
            "the service answers only those that it is told"
        )
    tls = given.tls or _tls_before(before) or _tls_by(address)
    organisation = _organisation(given)
    if organisation and tls == "off":
        refuse("--certificate is of no use with --tls off: leave one of them out")
    for name in given.clients:
        check_client_name(name)
    if len(given.clients) > limits.setup_clients_max:
        refuse(f"{len(given.clients)} times --client, at most {limits.setup_clients_max} are allowed")
    if given.clients and tls != "mutual":
        refuse(f'--client makes certificates, which with --tls {tls} nobody asks for; leave it out, or say "mutual"')
    # A name that clients have used goes only when the certificate is made anew for others.
    earlier = () if given.renew and given.names else before.names
    names = server_names(host, address, (*given.names, *earlier))
    return Answers(
        address,
        allow,
        tls,
        names,
        given.names or names[:1],
        organisation,
        tuple(dict.fromkeys(given.clients)),
        _registry(given),
        given.trust,
        given.renew,
    )


def server_names(host: str, address: Address, further: Sequence[str]) -> tuple[str, ...]:
    """Under which names clients may reach the server: what was named, the address, this machine's name, localhost.

    Raises InvalidArgument for what is neither a name nor an address.
    """
    for name in further:
        check_host(name)
    bound = [] if _is_unspecified(address.host) else [address.host]
    named = [*further, *bound, *([host] if _is_host(host) else []), "localhost", "127.0.0.1", "::1"]
    found = tuple(dict.fromkeys(named))
    if len(found) > limits.setup_names_max:
        refuse(f"{len(found)} names and addresses, a certificate gets at most {limits.setup_names_max}")
    return found


def check_host(name: str) -> None:
    """Raises InvalidArgument for what a certificate can't be for."""
    if len(name) > limits.setup_host_chars_max:
        refuse(
            f"--name {name[:40]}...: {len(name)} characters, a host's name has at most {limits.setup_host_chars_max}"
        )
    if not _is_host(name):
        refuse(f'--name "{name[:80]}" is neither a host\'s name (box.plant.example) nor an address (10.1.2.3)')


def check_client_name(name: str) -> None:
    """Raises InvalidArgument for what can't be both a folder's and a certificate's name."""
    if len(name) > limits.setup_client_name_chars_max:
        refuse(
            f'the client\'s name "{name[:20]}..." has {len(name)} characters, at most '
            f"{limits.setup_client_name_chars_max} are allowed"
        )
    if not _CLIENT.fullmatch(name):
        refuse(
            f'the client\'s name "{name}" may have letters, digits and . _ - only, and begins with a letter or digit'
        )


def _organisation(given: Given) -> Files | None:
    named = {"--certificate": given.certificate, "--key": given.key}
    if missing := [flag for flag, path in named.items() if path is None]:
        if len(missing) == 1 or given.client_ca or given.server_ca:
            refuse(f"missing: {' and '.join(missing)}; your organisation's certificate and its key come together")
        return None
    assert given.certificate is not None
    assert given.key is not None
    return Files(given.certificate, given.key, given.client_ca, given.server_ca)


def _registry(given: Given) -> dict[str, object]:
    """Settings by key; an empty text takes one back."""
    found: dict[str, object] = {}
    for key, value in (
        ("url", given.registry),
        ("prefix", given.registry_prefix),
        ("ca", given.registry_ca),
        ("credentials", given.registry_credentials),
    ):
        if value is not None:
            found[f"registry.{key}"] = str(value.absolute()) if isinstance(value, Path) else value
    return found


def _tls_by(address: Address) -> Tls:
    return "off" if address.is_loopback else "mutual"


def _tls_before(before: Before) -> Tls | None:
    settings = before.settings
    if settings.get("server.insecure"):
        return "off"
    if settings.get("server.tls.client_ca"):
        return "mutual"
    return "server" if settings.get("server.tls.certificate") else None


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_host(name: str) -> bool:
    """An address without brackets, or a host's name; by the same rule as addresses of the configuration."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        try:
            return parse_address(f"{name}:0").host == name and "_" not in name
        except ValueError:
            return False
    return not _is_unspecified(name)
