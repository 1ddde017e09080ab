"""The drop-in of the systemd unit that follows from a configuration: whom the service may reach, GPUs, keys.

The kernel's filter knows addresses only (IPAddressAllow=, systemd.resource-control(5)), so what the configuration names
by a host's name, and where clients are, has to be said besides.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from appliance import credentials
from appliance.address import Address, parse_address
from appliance.config import Config
from appliance.registry_rules import LAYOUT, OFFLINE

ANY = "any"
# What the unit shows of the machine beside the system: models' sources elsewhere can't be read.
_HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108  # none is made
_LOAD = "LoadCredential="
_GPU_PROVIDERS = {"cuda", "tensorrt"}
# As packaging/systemd/gpu.conf, which a test keeps in step.
GPU_LINES = (
    "PrivateDevices=no",
    "DeviceAllow=char-nvidia* rw",
    "DeviceAllow=char-nvidia-uvm rw",
    "RestrictAddressFamilies=AF_NETLINK",
    "MemoryDenyWriteExecute=no",
    "SystemCallFilter=@memlock",
    "LimitMEMLOCK=infinity",
)


class DropIn(NamedTuple):
    """``networks``: what may be reached, (ANY,) for everything; ``notes``: what an operator must know or do besides."""

    networks: tuple[str, ...]
    gpu: bool
    credentials: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


class ClientsUnknownError(Exception):
    """Other machines may connect, and nobody has said which."""


def plan(
    config: Config,
    allow: Sequence[str],
    gpu: bool,
    known: Mapping[str, str] | None = None,
    *,
    offer: bool = True,
) -> DropIn:
    """What the drop-in says.

    ``allow``: networks to add, or ANY; ``gpu``: whether there may be one;
    ``known``: credentials that the drop-in before this one has loaded, which are named only in the configuration now;
    ``offer``: load the keys as well that the configuration names by their paths, so that it may name them otherwise.

    Raises ClientsUnknownError, and ValueError for a text in ``allow`` that is no network.
    """
    added = [network(text) for text in allow]
    address = parse_address(config.server.address)
    if not address.is_loopback and not added:
        raise ClientsUnknownError(str(address))
    networks, notes = _networks(config, address, added)
    loads = tuple(dict.fromkeys(_loads(config, known or {}, offer=offer)))
    notes += _of_credentials(config, loads)
    notes += _of_folders(config)
    return DropIn(networks, gpu and not _GPU_PROVIDERS.isdisjoint(config.engines.providers), loads, tuple(notes))


def network(text: str) -> str:
    """A network (10.1.0.0/16), an address (192.0.2.7) or "any", as systemd has it. Raises ValueError that says what is wrong."""
    if text == ANY:
        return text
    try:
        return str(ipaddress.ip_network(text)) if "/" in text else str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError(
            f'"{text[:80]}" is neither an address, nor a network such as 10.1.0.0/16, nor "any" ({error})'
        ) from None


def render(drop_in: DropIn, files: Sequence[str]) -> str:
    """The drop-in as a file, its reasons beside the lines."""
    lines = [
        f"# Made by `appliance config systemd` from {', '.join(files) or 'the defaults'}. Make it anew when that changes.",
        *(f"# NOTE: {note}" for note in drop_in.notes),
        "[Service]",
        "# An empty value takes back what the unit and earlier drop-ins say.",
        "IPAddressAllow=",
        "IPAddressDeny=",
    ]
    if ANY in drop_in.networks:
        lines += ["# Everything may be reached: --allow any."]
    else:
        lines += ["IPAddressDeny=any", *(f"IPAddressAllow={each}" for each in drop_in.networks)]
    if drop_in.gpu:
        lines += ["# engines.providers names NVIDIA's.", *GPU_LINES]
    if drop_in.credentials:
        lines += ["# Read by systemd as root when the service starts."]
        lines += [f"{_LOAD}{name}:{path}" for name, path in drop_in.credentials]
    return "\n".join(lines) + "\n"


def document(drop_in: DropIn) -> Mapping[str, object]:
    """The same for programs."""
    return {
        "ip_address_allow": list(drop_in.networks),
        "gpu": drop_in.gpu,
        "load_credential": dict(drop_in.credentials),
        "notes": list(drop_in.notes),
    }


def _networks(config: Config, address: Address, added: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    if ANY in added:
        return (ANY,), []
    found, notes = ["localhost"], []
    hosts = [("server.address", address.host), *_registry_hosts(config)]
    for key, host in hosts:
        if host == "localhost" or Address(host, 0).is_loopback:
            continue
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            notes.append(
                f"{key} names {host}: the filter knows addresses only. Add what it resolves to, and the DNS server, "
                "with --allow"
            )
        else:
            if not literal.is_unspecified:
                found.append(str(literal))
    return tuple(dict.fromkeys([*found, *added])), notes


def _registry_hosts(config: Config) -> Iterator[tuple[str, str]]:
    """(key, host) of all that the sync process connects to; through a proxy only that."""
    registry = config.registry
    urls = [
        ("registry.url", registry.url),
        *((f"registry.mirrors[{i}]", url) for i, url in enumerate(registry.mirrors)),
    ]
    remote = [(key, url) for key, url in urls if url and url != OFFLINE and not url.startswith(LAYOUT)]
    if remote and registry.proxy:
        remote = [("registry.proxy", registry.proxy)]
    for key, url in remote:
        yield key, urlsplit(url).hostname or ""


def _loads(config: Config, known: Mapping[str, str], *, offer: bool) -> Iterator[tuple[str, str]]:
    """(name, path) of the files that only their owner should read: keys and passwords."""
    for key, value in credentials.keys(config):
        if key in ("server.tls.key", "registry.key", "registry.credentials") and not credentials.named(value):
            if offer:
                yield key, value
        elif (name := credentials.named(value)) in known:
            yield name, known[name]


def loaded_by(text: str) -> dict[str, str]:
    """The credentials that a drop-in loads, by name."""
    lines = [line.removeprefix(_LOAD).partition(":") for line in text.splitlines() if line.startswith(_LOAD)]
    return {name: path for name, _, path in lines if name and path}


def allowed_by(text: str) -> tuple[str, ...] | None:
    """The networks that a drop-in allows beside this machine, (ANY,) for all; None where it leaves them to the unit."""
    lines = [line.strip() for line in text.splitlines()]
    if "IPAddressAllow=" not in lines:
        return None
    if "IPAddressDeny=any" not in lines:
        return (ANY,)
    found = [line.removeprefix("IPAddressAllow=") for line in lines if line.startswith("IPAddressAllow=")]
    return tuple(each for each in found if each not in ("", "localhost"))


def _of_credentials(config: Config, loads: Sequence[tuple[str, str]]) -> list[str]:
    in_use = {credentials.named(value) for _, value in credentials.keys(config)}
    fresh = [name for name, _ in loads if name not in in_use]
    notes = [f'with LoadCredential={name}, write {name} = "{credentials.PREFIX}{name}"' for name in fresh]
    for key, value in credentials.keys(config):
        name = credentials.named(value)
        if name and name not in dict(loads):
            notes.append(f"{key} is the credential {name}: a drop-in must say LoadCredential={name}:/PATH/OF/THE/FILE")
    return notes


def _of_folders(config: Config) -> list[str]:
    notes = []
    urls = {"registry.url": config.registry.url, "registry.mirrors": " ".join(config.registry.mirrors)}
    folders = [
        (key, Path(url.removeprefix(LAYOUT)))
        for key, text in urls.items()
        for url in text.split()
        if url.startswith(LAYOUT)
    ]
    folders += [(key, Path(value)) for key, value in credentials.keys(config) if not credentials.named(value)]
    for key, folder in folders:
        if any(folder.is_relative_to(hidden) for hidden in _HIDDEN):
            notes.append(f"{key} is {folder}, which the service does not see: put it below /srv or /etc")
    for key, value in (("paths.state", config.paths.state), ("paths.runtime", config.paths.runtime)):
        if value:
            notes.append(f"{key} is {value}: the service may write there only with ReadWritePaths={value}")
    return notes
