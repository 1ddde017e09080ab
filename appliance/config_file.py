"""Reads the configuration: one TOML file, the drop-ins beside it, what the command line overrides; frozen at the end.

Every file is flattened into settings that remember where they came from, so merging tables is updating a dictionary
and every error can name the file and the key. What values are allowed is in config_rules.py.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance import config_rules, limits
from appliance.config import Config
from appliance.config_rules import Key, Setting, refuse
from appliance.credentials import named

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_PATH = Path("/etc/inference-appliance/appliance.toml")
DROP_INS = "conf.d"
COMMAND_LINE = "command line"

# Of these, a relative one means a file beside the file that names it, wherever the daemon is started from.
_PATH_KEYS: tuple[Key, ...] = (
    ("server", "tls", "certificate"),
    ("server", "tls", "key"),
    ("server", "tls", "client_ca"),
    ("server", "unix_socket"),
    ("paths", "state"),
    ("paths", "runtime"),
    ("registry", "root"),
    ("registry", "ca"),
    ("registry", "certificate"),
    ("registry", "key"),
    ("registry", "credentials"),
)


class Loaded(NamedTuple):
    """A configuration, the files it came from in the order of reading, and the place that set each key that is set."""

    config: Config
    files: tuple[Path, ...]
    origins: dict[str, str]


def load_config(path: Path | None = None, overrides: Mapping[str, object] | None = None) -> Config:
    """As ``load``, for whoever only wants the configuration."""
    return load(path, overrides).config


def load(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    pending: Mapping[Path, bytes] | None = None,
) -> Loaded:
    """Reads ``path`` and the ``conf.d/*.toml`` beside it, in name order; later files win, key by key.

    Without ``path`` the default file is read if it exists. ``overrides`` are what the command line says, by dotted key;
    ``pending`` drop-ins, and the file itself, as they are about to be written.
    Raises InvalidArgument (reason CONFIG) with the place, what came and what is allowed.
    """
    pending = pending or {}
    files = tuple(_files(path, pending))
    settings: dict[Key, Setting] = {}
    for file in files:
        settings.update(_settings(file, pending.get(file)))
    command_line = _nested({tuple(name.split(".")): value for name, value in (overrides or {}).items()})
    settings.update({s.key: s for s in config_rules.flatten(command_line, Config, COMMAND_LINE, Path.cwd())})
    settings = {key: _absolute(setting) for key, setting in settings.items()}
    config = msgspec.convert(_nested({key: setting.value for key, setting in settings.items()}), Config)
    config_rules.check(config, settings)
    return Loaded(config, files, {".".join(key): setting.origin for key, setting in settings.items()})


def settings_of(file: Path) -> dict[str, object]:
    """What one file says, by dotted key, whatever others say; nothing where there is none. Raises as ``load``."""
    return {".".join(s.key): s.value for s in _settings(file).values()} if file.exists() else {}


def _files(path: Path | None, pending: Mapping[Path, bytes]) -> Iterator[Path]:
    """The files to read; one that was asked for must exist."""
    main = path or DEFAULT_PATH
    if path is not None or main.exists():
        yield main
    try:
        # Hidden files are what editors and package managers leave behind.
        there = {p for p in (main.parent / DROP_INS).glob("*.toml") if not p.name.startswith(".")}
        found = sorted(there | {p for p in pending if p.parent == main.parent / DROP_INS})
    except OSError as error:
        refuse(str(main.parent / DROP_INS), "", f"cannot be listed: {error.strerror}")
    if len(found) > limits.config_drop_ins_max:
        refuse(str(main.parent / DROP_INS), "", f"{len(found)} files, at most {limits.config_drop_ins_max} are allowed")
    yield from found


def _settings(file: Path, pending: bytes | None = None) -> dict[Key, Setting]:
    """All keys of one file, each checked for its name and type."""
    table = _read(file, pending)
    return {s.key: s for s in config_rules.flatten(table, Config, str(file), file.absolute().parent)}


def _read(file: Path, pending: bytes | None) -> dict[str, Any]:
    """The file's TOML."""
    try:
        if pending is None:
            with file.open("rb") as stream:
                data = stream.read(limits.config_file_bytes_max + 1)
        else:
            data = pending
    except FileNotFoundError:
        refuse(str(file), "", "no such file; name another with --config, or leave it out for the defaults")
    except OSError as error:
        refuse(str(file), "", f"cannot be read: {error.strerror}")
    if len(data) > limits.config_file_bytes_max:
        refuse(str(file), "", f"is larger than {limits.config_file_bytes_max} bytes, which no configuration file is")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        refuse(str(file), "", f"line {line} holds bytes that are not UTF-8; save the file as UTF-8")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        refuse(str(file), "", f"is not valid TOML: {error}")


def _absolute(setting: Setting) -> Setting:
    """A path relative to the file that named it, made absolute; anything else, credentials of systemd too, as it is."""
    if setting.key in _PATH_KEYS and isinstance(setting.value, str) and setting.value and not named(setting.value):
        return setting._replace(value=str(setting.base / setting.value))
    return setting


def _nested(values: Mapping[Key, object]) -> dict[str, Any]:
    """Flat keys as tables in tables."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        table = tree
        for step in key[:-1]:
            table = table.setdefault(step, {})
        table[key[-1]] = value
    return tree
