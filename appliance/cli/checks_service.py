"""What `appliance doctor` finds out about the systemd service: whether it runs, and whether its drop-ins let it."""

import contextlib
import grp
import ipaddress
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from appliance import credentials
from appliance.address import Address, parse_address
from appliance.cli.checks import Check
from appliance.config import Config
from appliance.config_file import DEFAULT_PATH, Loaded
from appliance.registry_rules import LAYOUT, OFFLINE
from appliance.setup.layout import SERVICE

_UNIT = "inference-appliance.service"
# Where units and their drop-ins lie, the later ones winning (systemd.unit(5)).
_FOLDERS = ("lib/systemd/system", "usr/lib/systemd/system", "run/systemd/system", "etc/systemd/system")
_ADVICE = "appliance setup --allow NETWORK, then systemctl daemon-reload && systemctl restart inference-appliance"
_SECONDS = 10.0

# Properties of a unit by name, as `systemctl show` prints them; raises OSError where there is no systemctl.
Show = Callable[[Sequence[str]], dict[str, str]]


def check_service(loaded: Loaded, root: Path = Path("/"), show: Show | None = None) -> Iterator[Check]:
    """Nothing where the unit isn't installed, or where another configuration is looked at than the service's."""
    lines = list(_lines(root))
    ours = all(file.is_relative_to(DEFAULT_PATH.parent) for file in loaded.files)
    if not lines or not ours:
        return
    yield from check_networks(loaded.config, lines)
    yield from check_credentials(loaded.config, lines)
    yield from check_readable(loaded.config)
    if (root / "run/systemd/system").exists():  # sd_booted(3)
        yield from check_active(show or _show)


def check_networks(config: Config, lines: Sequence[str]) -> Iterator[Check]:
    """That the kernel's filter lets in and out what the configuration wants."""
    denied, allowed = _values(lines, "IPAddressDeny"), _values(lines, "IPAddressAllow")
    if "any" not in denied or "any" in allowed:
        yield Check("networks", "ok", "the unit lets it reach every network")
        return
    networks = [each for each in allowed if each != "localhost"]
    address = parse_address(config.server.address)
    if not address.is_loopback and not networks:
        found = f"other machines may connect to {address}, but the unit answers none of them (IPAddressAllow=)"
        yield Check("networks", "bad", found, _ADVICE)
        return
    for key, host in _hosts(config):
        if Address(host, 0).is_loopback:
            continue
        known = _is_within(host, networks)
        if known is False or not networks:
            yield Check("networks", "bad", f"the unit does not let it reach {host} ({key})", _ADVICE)
    yield Check("networks", "ok", f"the unit lets it reach {', '.join(allowed) or 'nothing'}")


def check_credentials(config: Config, lines: Sequence[str]) -> Iterator[Check]:
    """That what the configuration names "credential:NAME" is handed over, out of a file that is there."""
    loads = {}
    for value in (*_values(lines, "LoadCredential"), *_values(lines, "LoadCredentialEncrypted")):
        name, _, path = value.partition(":")
        loads[name] = path
    for key, value in credentials.keys(config):
        name = credentials.named(value)
        if not name:
            continue
        if name not in loads:
            advice = f"write LoadCredential={name}:/PATH/OF/THE/FILE into a drop-in of the unit"
            yield Check("credentials", "bad", f"{key} is {value}, which the unit does not load", advice)
        elif loads[name].startswith("/") and os.geteuid() == 0 and not Path(loads[name]).exists():
            yield Check(
                "credentials", "bad", f"{key}: {loads[name]} is not there", "put it there, or correct the drop-in"
            )


def check_readable(config: Config) -> Iterator[Check]:
    """That the service's user can read its key; only root can tell."""
    path = config.server.tls.key
    if os.geteuid() != 0 or not path or credentials.named(path):
        return
    with contextlib.suppress(KeyError, OSError):
        found, user, group = os.stat(path), pwd.getpwnam(SERVICE), grp.getgrnam(SERVICE)
        by_owner = found.st_uid == user.pw_uid and found.st_mode & 0o400
        by_group = found.st_gid == group.gr_gid and found.st_mode & 0o040
        if not (by_owner or by_group):
            advice = f"chgrp {SERVICE} {path} && chmod 640 {path}"
            yield Check("secrets", "bad", f"the service's user cannot read {path}", advice)


def check_active(show: Show) -> Iterator[Check]:
    """What systemd says of it."""
    try:
        found = show(("ActiveState", "SubState", "Result", "StatusText", "NeedDaemonReload"))
    except (OSError, subprocess.SubprocessError) as error:
        yield Check("service", "warn", f"systemctl does not answer: {error}", "see `systemctl status`")
        return
    state, said = found.get("ActiveState", "unknown"), found.get("StatusText", "")
    shown = f"{state}{f': {said}' if said else ''}"
    if found.get("NeedDaemonReload") == "yes":
        advice = "systemctl daemon-reload && systemctl restart inference-appliance"
        yield Check("service", "warn", "its unit or a drop-in has changed since it was started", advice)
    if state in ("active", "reloading"):
        yield Check("service", "ok", shown)
    elif state == "inactive":
        yield Check("service", "warn", "it does not run", "systemctl start inference-appliance")
    elif state == "failed":
        advice = "journalctl -u inference-appliance; then systemctl restart inference-appliance"
        yield Check("service", "bad", f"failed ({found.get('Result', '')}){f': {said}' if said else ''}", advice)
    else:
        yield Check("service", "warn", shown, "it starts or stops; see `systemctl status inference-appliance`")


def _lines(root: Path) -> Iterator[str]:
    """The unit's lines and those of its drop-ins, in the order in which systemd reads them; none without the unit."""
    folders = [root / folder for folder in _FOLDERS]
    units = [folder / _UNIT for folder in folders if (folder / _UNIT).is_file()]
    if not units:
        return
    drop_ins = {file.name: file for folder in folders for file in (folder / f"{_UNIT}.d").glob("*.conf")}
    for file in (units[-1], *(drop_ins[name] for name in sorted(drop_ins))):
        with contextlib.suppress(OSError, UnicodeDecodeError):  # one that only root reads says nothing to others
            yield from map(str.strip, file.read_text().splitlines())


def _values(lines: Sequence[str], name: str) -> list[str]:
    """What a setting that adds up has in the end: an empty value takes back what came before."""
    found: list[str] = []
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key.strip() == name:
            found = [*found, *value.split()] if value.strip() else []
    return found


def _hosts(config: Config) -> Iterator[tuple[str, str]]:
    registry = config.registry
    urls = [("registry.proxy", registry.proxy)] if registry.proxy else [("registry.url", registry.url)]
    for key, url in urls:
        if url and url != OFFLINE and not url.startswith(LAYOUT):
            yield key, urlsplit(url).hostname or ""


def _is_within(host: str, networks: Sequence[str]) -> bool | None:
    """Whether an address is in one of the networks; None for a name, of which only a resolver knows."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    within = []
    for each in networks:
        with contextlib.suppress(ValueError):
            within.append(address in ipaddress.ip_network(each, strict=False))
    return any(within)


def _show(properties: Sequence[str]) -> dict[str, str]:
    """Of the service, by `systemctl show`, which anybody may ask."""
    command = ["systemctl", "show", _UNIT, f"--property={','.join(properties)}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in pairs}
