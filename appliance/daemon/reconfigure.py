"""What a reload may change while the daemon serves: decided here, key by key; carried out by the supervisor.

The rest (addresses, folders, how many processes, whether there is TLS at all) is what open connections and running
processes were made with: it waits for a restart, and the log and `systemctl status` say so.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from appliance.config import Config, Section, TlsConfig

_Section = TypeVar("_Section", bound=Section)

# Keys that take effect at a reload; one that ends in a dot stands for its whole table. Engines' own: from the next load.
_LIVE = (
    "engines.load_seconds_max",
    "engines.providers",
    "engines.queue_max",
    "engines.step_seconds_max",
    "engines.threads",
    "log.",
    "models.required",
    "registry.",
    "server.drain_seconds",
    "server.tls.",
)


class Change(NamedTuple):
    """``running``: what is to be in force; ``asked``: the same as it was written; the dotted keys that changed."""

    running: Config
    asked: Config
    live: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class Reconfigure:
    """Knows how the configuration was written that is in force, and reads it anew.

    ``running`` may differ from what was written: a free port stands in place of port 0.
    """

    def __init__(self, asked: Config, running: Config, read: Callable[[], Config]) -> None:
        self._asked = asked
        self._running = running
        self._read = read

    def look(self) -> Change:
        """What has been written since. Raises InvalidArgument where that is no configuration; nothing has changed then."""
        wanted = self._read()
        changed = tuple(differences(self._asked, wanted))
        waiting = tuple(key for key in changed if not _is_live(key, self._asked, wanted))
        live = tuple(key for key in changed if key not in waiting)
        running, asked = self._running, self._asked
        for key in live:
            value = _get(wanted, key)
            running, asked = _with(running, key, value), _with(asked, key, value)
        return Change(running, asked, live, waiting)

    def accept(self, change: Change) -> None:
        """It is in force."""
        self._asked, self._running = change.asked, change.running


def differences(old: Section, new: Section, at: str = "") -> Iterator[str]:
    """The dotted keys whose values differ."""
    for field in msgspec.structs.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if isinstance(before, Section):
            yield from differences(before, after, f"{at}{field.name}.")
        elif before != after:
            yield at + field.name


def _is_live(key: str, old: Config, new: Config) -> bool:
    if key.startswith("server.tls.") and _kind(old.server.tls) != _kind(new.server.tls):
        return False
    return any(key == live or (live.endswith(".") and key.startswith(live)) for live in _LIVE)


def _kind(tls: TlsConfig) -> tuple[bool, bool]:
    """What a port is opened with: TLS or not, and whether clients must show a certificate."""
    return bool(tls.certificate or tls.key), bool(tls.client_ca)


def _get(config: Section, key: str) -> object:
    name, _, rest = key.partition(".")
    value = getattr(config, name)
    return _get(value, rest) if rest else value


def _with(config: _Section, key: str, value: object) -> _Section:
    name, _, rest = key.partition(".")
    return msgspec.structs.replace(config, **{name: _with(getattr(config, name), rest, value) if rest else value})
