"""Secrets in files: which of the configuration's paths are credentials of systemd, and which files others could read.

A path "credential:NAME" means the file of that name that LoadCredential= or LoadCredentialEncrypted= has put into
$CREDENTIALS_DIRECTORY (systemd.exec(5)). Only the service has that folder: commands see the text as it was written.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.config import Config
from appliance.errors import InvalidArgument

PREFIX = "credential:"
_DIRECTORY = "CREDENTIALS_DIRECTORY"
# What systemd takes as a name: a file name of printable ASCII without a colon, which would end it in the unit.
_NAME = re.compile(r"(?!\.\.?$)[!-.0-9;-~]{1,255}")
# By the group's members files may be read: Debian's group ssl-cert has servers' keys so.
_LOOSE = stat.S_IRWXO | stat.S_IWGRP


def keys(config: Config) -> Iterator[tuple[str, str]]:
    """The dotted keys of all files that may be credentials, with their paths; those that are not set are left out."""
    tls, registry = config.server.tls, config.registry
    for name in ("certificate", "key", "client_ca"):
        if value := getattr(tls, name):
            yield f"server.tls.{name}", value
    for name in ("root", "ca", "certificate", "key", "credentials"):
        if value := getattr(registry, name):
            yield f"registry.{name}", value


def resolve(config: Config, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration with paths in place of names of credentials. Raises InvalidArgument for one that isn't there."""
    found = {key: _path(key, value, environ) for key, value in keys(config) if value.startswith(PREFIX)}
    if not found:
        return config
    tls = _replaced(config.server.tls, "server.tls.", found)
    server = msgspec.structs.replace(config.server, tls=tls)
    registry = _replaced(config.registry, "registry.", found)
    return msgspec.structs.replace(config, server=server, registry=registry)


def named(value: str) -> str:
    """The name in "credential:NAME"; "" for a path."""
    return value.removeprefix(PREFIX) if value.startswith(PREFIX) else ""


def is_name(text: str) -> bool:
    """Whether a credential may have this name."""
    return _NAME.fullmatch(text) is not None


def exposed(path: str) -> str:
    """Why a file with a secret may not be used, and what mends it; "" when only its owner and group can read it.

    Raises OSError when there is no such file.
    """
    if not os.stat(path).st_mode & _LOOSE:
        return ""
    return f"others than its owner and group may read or change {path}: {mend(path)}, and replace it if others use it"


def mend(path: str) -> str:
    """The command that takes away from others what they may not have."""
    return f"chmod o-rwx,g-w {path}"


def _path(key: str, value: str, environ: Mapping[str, str]) -> str:
    name, folder = named(value), environ.get(_DIRECTORY, "")
    if not is_name(name):
        raise _wrong(
            key, f'"{value[:80]}" must be "{PREFIX}" and the name of a credential, for example {PREFIX}server.key'
        )
    if not folder:
        raise _wrong(key, f'"{value}" is known to a service of systemd only; name a file where it runs without')
    path = Path(folder) / name
    if not path.exists():
        raise _wrong(
            key,
            f"there is no credential {name}: write LoadCredential={name}:/PATH/OF/THE/FILE into a drop-in of the unit",
        )
    return str(path)


def _wrong(key: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{key}: {what}", reason="CONFIG")


def _replaced(section: Any, prefix: str, found: Mapping[str, str]) -> Any:
    values = {key.removeprefix(prefix): path for key, path in found.items() if key.startswith(prefix)}
    return msgspec.structs.replace(section, **values) if values else section
