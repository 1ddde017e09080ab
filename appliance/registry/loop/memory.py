"""What the sync process remembers across restarts: who this box is, what has run here, and whether it is paused.

    <state>/state/sync.json

Everything else is seen anew at each poll. A file that is lost costs the rollback protection between polls of one release
counter, which the signed metadata's own versions still give, and gives the box another place in the waves.
"""

import logging
import secrets
from pathlib import Path

import msgspec

from appliance import limits
from appliance.osutil import durable

_log = logging.getLogger(__name__)

FORMAT = 1


class Remembered(msgspec.Struct, frozen=True):
    """``counters``: the highest release counter of each line that has run here."""

    format: int
    device: str
    paused: bool = False
    counters: dict[str, int] = {}


_decoder = msgspec.json.Decoder(Remembered)


class Memory:
    """The file, written with each change. Raises OSError when it can't be."""

    def __init__(self, state: Path) -> None:
        folder = state / "state"
        durable.mkdir(folder)
        self._path = folder / "sync.json"
        self._now = self._load()

    @property
    def device(self) -> str:
        """What tells this box from others, and nothing else about it."""
        return self._now.device

    @property
    def paused(self) -> bool:
        """Whether an operator said so."""
        return self._now.paused

    def counter(self, line: str) -> int:
        """The highest of a release that has run here, -1: none has."""
        return self._now.counters.get(line, -1)

    def pause(self, paused: bool) -> None:
        """Remembers what an operator wants."""
        if paused != self._now.paused:
            self._write(msgspec.structs.replace(self._now, paused=paused))

    def ran(self, line: str, counter: int) -> None:
        """A release with this counter runs."""
        if counter > self.counter(line):
            self._write(msgspec.structs.replace(self._now, counters={**self._now.counters, line: counter}))

    def _write(self, after: Remembered) -> None:
        data = msgspec.json.format(msgspec.json.encode(after), indent=2) + b"\n"
        durable.write(self._path, data, point="sync.memory")
        self._now = after

    def _load(self) -> Remembered:
        try:
            if self._path.stat().st_size > limits.sync_memory_bytes_max:
                raise ValueError("it is larger than this file can be")
            found = _decoder.decode(self._path.read_bytes())
            if found.format != FORMAT or not found.device:
                raise ValueError(f"format {found.format}, this version reads format {FORMAT}")
        except FileNotFoundError:
            pass
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            aside = durable.set_aside(self._path)
            _log.warning("%s cannot be read (%s): set aside as %s", self._path.name, error, aside.name)
        else:
            return found
        made = Remembered(FORMAT, secrets.token_hex(16))
        durable.write(self._path, msgspec.json.encode(made), point="sync.memory")
        return made
