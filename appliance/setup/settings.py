"""The file of settings: what follows from the answers, merged with what it said before, as TOML. Pure."""

import json
from collections.abc import Mapping

from appliance.setup.answers import Answers
from appliance.setup.layout import Layout
from appliance.setup.reading import refuse

_HEAD = (
    "# Made by `appliance setup`, which keeps what is added here, but not comments.\n"
    "# The file before the last change: 50-setup.toml.bak. Every key: appliance.toml.\n"
)


def settings(answers: Answers, layout: Layout, before: Mapping[str, object], *, own_clients: bool) -> dict[str, object]:
    """By dotted key. ``own_clients``: clients' certificates are signed by the authority of this box."""
    found = {**before, "server.address": str(answers.address), **answers.settings}
    for key in ("certificate", "key", "client_ca"):
        found.pop(f"server.tls.{key}", None)
    if answers.tls != "off":
        found["server.tls.certificate"] = str(layout.certificate)
        found["server.tls.key"] = str(layout.key)
    if answers.tls == "mutual":
        found["server.tls.client_ca"] = str(layout.authority if own_clients else layout.client_ca)
    # Only what the operator has written out: --tls off for an address that others reach.
    found.pop("server.insecure", None)
    if answers.tls == "off" and not answers.address.is_loopback:
        found["server.insecure"] = True
    return {key: value for key, value in found.items() if value != "" or not key.startswith("registry.")}


def as_toml(values: Mapping[str, object]) -> str:
    """A table for each section, keys in order. Raises InvalidArgument for control codes, which no value needs."""
    tables: dict[str, list[str]] = {}
    for key in sorted(values):
        table, _, name = key.rpartition(".")
        tables.setdefault(table, []).append(f"{name} = {_value(key, values[key])}")
    parts = ["\n".join([f"[{table}]", *lines]) for table, lines in tables.items()]
    return _HEAD + "".join(f"\n{part}\n" for part in parts)


def _value(key: str, value: object) -> str:
    """JSON's text, numbers and lists are TOML's too, but for control codes and pairs of escapes."""
    text = json.dumps(value, ensure_ascii=False)
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) < 0xE000 for char in _texts(value)):
        refuse(f"{key}: {text[:80]} holds a control code")
    return text


def _texts(value: object) -> str:
    return "".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
