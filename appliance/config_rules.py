"""What the configuration's keys may be: names and types by the structs of config.py, ranges and combinations by the tables here."""

import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, get_args, get_origin

import msgspec

from appliance import limits, registry_rules
from appliance.address import parse_address
from appliance.config import Config, Section
from appliance.errors import InvalidArgument
from appliance.model_spec import ProviderName

Key = tuple[str, ...]


class Setting(NamedTuple):
    """A key's value, the file that set it (or "command line"), and the folder that its relative paths start from."""

    key: Key
    value: object
    origin: str
    base: Path


class Range(NamedTuple):
    """The least and the most that a number may be, and its unit."""

    low: float
    high: float
    unit: str


RANGES: dict[str, Range] = {
    "server.max_message_mib": Range(1, limits.config_message_mib_max, "MiB"),
    "server.front_ends": Range(0, limits.config_front_ends_max, "processes; 0: by the number of cores"),
    "server.threads": Range(1, limits.config_threads_max, "threads"),
    "server.drain_seconds": Range(0, limits.config_drain_seconds_max, "seconds"),
    "engines.threads": Range(0, limits.config_engine_threads_max, "threads; 0: the number of cores"),
    "engines.queue_max": Range(1, limits.config_queue_max, "requests"),
    "engines.load_seconds_max": Range(1, limits.config_engine_seconds_max, "seconds"),
    "engines.step_seconds_max": Range(1, limits.config_engine_seconds_max, "seconds"),
    "registry.poll_seconds": Range(1, limits.registry_poll_seconds_max, "seconds"),
    "registry.bandwidth_kib_s": Range(0, limits.registry_bandwidth_kib_s_max, "KiB/s; 0: without bound"),
    "registry.parallel": Range(1, limits.registry_parallel_max, "files at a time"),
    "registry.disk_mib_max": Range(0, limits.registry_disk_mib_max, "MiB; 0: what the disk has"),
    "registry.keep_previous": Range(1, limits.registry_keep_previous_max, "versions"),
    "registry.shadow_percent": Range(0, 100, "percent of the calls; 0: none"),
    "registry.canary_percent": Range(0, 100, "percent of the calls; 0: none"),
    "registry.compare_calls": Range(0, limits.comparison_calls_max, "calls; 0: any number"),
    "registry.compare_seconds": Range(0, limits.comparison_seconds_max, "seconds; 0: any time"),
    "registry.compare_failed_max": Range(0, 1, "share of the calls"),
    "registry.compare_agreement_min": Range(0, 1, "share of the answers; 0: not judged"),
    "registry.compare_latency_max": Range(0, limits.comparison_latency_ratio_limit, "times; 0: not judged"),
    "registry.probation_seconds": Range(0, limits.probation_seconds_max, "seconds; 0: none"),
}

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string in quotes",
    list: "a list",
    dict: "a table",
}


def refuse(origin: str, key: str, what: str) -> NoReturn:
    """Raises the one error that a configuration has: where, which key, what is wrong."""
    place = f"{origin}: {key}: " if key else f"{origin}: "
    raise InvalidArgument(place + what, reason="CONFIG")


def flatten(table: dict[str, Any], section: type[Section], origin: str, base: Path, at: Key = ()) -> Iterator[Setting]:
    """The settings of a table, checked against the struct that it becomes: unknown keys and wrong types are refused."""
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    for name, value in table.items():
        key = (*at, name)
        if name not in fields:
            refuse(origin, ".".join(key), f"unknown {_thing(value)}{_meant(name, at, fields)}")
        expected = fields[name]
        if isinstance(expected, type) and issubclass(expected, Section):
            if not isinstance(value, dict):
                refuse(origin, ".".join(key), f"must be a table, written [{'.'.join(key)}]; got {_came(value)}")
            yield from flatten(value, expected, origin, base, key)
        else:
            _check_type(value, expected, origin, ".".join(key))
            yield Setting(key, value, origin, base)


def check(config: Config, settings: Mapping[Key, Setting]) -> None:
    """Ranges, addresses and what must go together; raises InvalidArgument (reason CONFIG)."""
    by_name = {".".join(key): setting for key, setting in settings.items()}
    for name, allowed in RANGES.items():
        if name in by_name and not allowed.low <= by_name[name].value <= allowed.high:  # type: ignore[operator]  # flatten saw a number
            refuse(
                by_name[name].origin,
                name,
                f"{by_name[name].value} is not from {allowed.low:g} to {allowed.high:g} ({allowed.unit})",
            )
    _check_required(config, by_name)
    _check_providers(config, by_name)
    for key, problem in registry_rules.problems(config.registry):
        setting = by_name.get(key.partition("[")[0])
        refuse(setting.origin if setting else "defaults", key, problem)
    _check_paths(config, by_name)
    _check_listener(config, by_name)


def _check_type(value: object, expected: Any, origin: str, key: str) -> None:
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError:
        refuse(origin, key, f"must be {_allowed(expected)}; got {_came(value)}{_choice_meant(value, expected)}")


def _check_required(config: Config, by_name: Mapping[str, Setting]) -> None:
    names = config.models.required
    if not names:
        return
    origin = by_name["models.required"].origin
    if len(names) > limits.config_required_models_max:
        refuse(
            origin,
            "models.required",
            f"{len(names)} names, at most {limits.config_required_models_max} are allowed",
        )
    for index, name in enumerate(names):
        if not 1 <= len(name) <= limits.model_name_chars_max:
            refuse(
                origin,
                f"models.required[{index}]",
                f"a model's name has 1 to {limits.model_name_chars_max} characters, this one {len(name)}",
            )
        if name in names[:index]:
            refuse(origin, f"models.required[{index}]", f'"{name}" is named twice; once is enough')


def _check_providers(config: Config, by_name: Mapping[str, Setting]) -> None:
    """Names as in model.toml (model_spec.ProviderName), each once."""
    names = config.engines.providers
    for index, name in enumerate(names):
        place = f"engines.providers[{index}]"
        if name not in get_args(ProviderName):
            allowed = _allowed(ProviderName)
            refuse(
                by_name["engines.providers"].origin,
                place,
                f"must be {allowed}; got {_came(name)}{_choice_meant(name, ProviderName)}",
            )
        if name in names[:index]:
            refuse(by_name["engines.providers"].origin, place, f'"{name}" is named twice; once is enough')


def _check_paths(config: Config, by_name: Mapping[str, Setting]) -> None:
    for name, setting in by_name.items():
        if isinstance(setting.value, str) and "\0" in setting.value:
            refuse(setting.origin, name, "holds a zero byte, which no name can")
    size = len(str(config.unix_socket).encode())
    if size > limits.unix_socket_path_bytes_max:
        name = next((n for n in ("server.unix_socket", "paths.runtime") if n in by_name), "server.unix_socket")
        refuse(
            by_name[name].origin if name in by_name else "defaults",
            name,
            f"makes the unix socket's path {size} bytes long, Linux allows {limits.unix_socket_path_bytes_max}; "
            "name a folder with a shorter path",
        )


def _check_listener(config: Config, by_name: Mapping[str, Setting]) -> None:
    """The address, and that what leaves the machine is encrypted unless the operator wrote out that it needn't be."""
    server, tls = config.server, config.server.tls
    origin = by_name["server.address"].origin if "server.address" in by_name else "defaults"
    try:
        address = parse_address(server.address)
    except ValueError as error:
        refuse(origin, "server.address", f"{_came(server.address)} is not an address: {error}")
    for given, missing in (("certificate", "key"), ("key", "certificate"), ("client_ca", "certificate")):
        if getattr(tls, given) and not getattr(tls, missing):
            refuse(
                by_name[f"server.tls.{given}"].origin,
                f"server.tls.{given}",
                f"is set but server.tls.{missing} is not; set both, or neither",
            )
    if not (address.is_loopback or tls.certificate or server.insecure):
        refuse(
            origin,
            "server.address",
            f'"{address}" can be reached from other machines, but there is no TLS. Either set server.tls.certificate '
            "and server.tls.key, or, if every machine on that network may read and send requests, write "
            "server.insecure = true",
        )


def _thing(value: object) -> str:
    return "table" if isinstance(value, dict) else "key"


def _meant(name: str, at: Key, fields: Mapping[str, object]) -> str:
    """What was probably meant, here or in another table; else all that there is."""
    # Only needed when something is wrong; the daemon's processes stay smaller without it.
    import difflib

    near = difflib.get_close_matches(name.lower(), list(fields), n=1, cutoff=0.6)
    if near:
        return f"; did you mean {'.'.join((*at, near[0]))}?"
    elsewhere = [key for key in all_keys() if key.rsplit(".", 1)[-1] == name]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return f"; {'.'.join(at) or 'the file'} may have {', '.join(fields)}"


def _choice_meant(value: object, expected: Any) -> str:
    import difflib

    if get_origin(expected) is not Literal or not isinstance(value, str):
        return ""
    near = difflib.get_close_matches(value.lower(), get_args(expected), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def all_keys(section: type[Section] = Config, at: Key = ()) -> list[str]:
    """Every key that the file may have, dotted, in the structs' order."""
    keys = []
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            keys += all_keys(field.type, (*at, field.name))
        else:
            keys.append(".".join((*at, field.name)))
    return keys


def _allowed(expected: Any) -> str:
    """A field's type in words."""
    if get_origin(expected) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(expected))
    if get_origin(expected) is tuple:
        return 'a list of strings, for example ["one", "two"]'
    return _NAMES[expected]


def _came(value: object) -> str:
    """A value as the file may have had it, short enough for one line."""
    if isinstance(value, (dict, list)):
        return _NAMES[type(value)] if value else f"an empty {'table' if isinstance(value, dict) else 'list'}"
    if not isinstance(value, (bool, int, float, str, types.NoneType)):
        return f"{value} (a date or time)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
