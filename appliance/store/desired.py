"""state/desired.json: what should run of each model, across restarts. Owned by the store, asked for by the supervisor.

It cannot be rebuilt from anything else, so a second copy with the same content is kept beside it.
"""

import logging
from pathlib import Path

import msgspec

from appliance.osutil import durable
from appliance.questions import Desired

_log = logging.getLogger(__name__)

FORMAT = 1


class _Entry(msgspec.Struct, frozen=True):
    name: str
    active: str = ""
    beside: tuple[str, ...] = ()
    previous: str = ""


class _File(msgspec.Struct, frozen=True):
    format: int
    desired: tuple[_Entry, ...]


_decoder = msgspec.json.Decoder(_File)


class DesiredFile:
    """What should run, by model name."""

    def __init__(self, folder: Path) -> None:
        durable.mkdir(folder)
        self._path = folder / "desired.json"
        self._copy = folder / "desired.copy.json"
        self.models: dict[str, Desired] = self._load()

    def set(self, desired: Desired) -> None:
        """Makes this what should run of one model; durable when it returns. With nothing to run it is forgotten."""
        models = {**self.models, desired.name: desired}
        if not desired.active and not desired.beside:
            del models[desired.name]
        data = _encode(models)
        try:
            durable.write(self._path, data, point="store.desired")
        except BaseException:
            self.models = self._load()
            raise
        self.models = models
        try:
            durable.write(self._copy, data, point="store.desired_copy")
        except OSError as error:
            _log.warning("the second copy of desired.json could not be written: %s", error)

    def _load(self) -> dict[str, Desired]:
        models = _read(self._path)
        if models is not None:
            return models
        models = _read(self._copy)
        if models is None:
            models = {}
            if self._path.with_name(self._path.name + ".broken").exists():
                _log.error("what should run is not known any more: activate the models again")
            return models
        _log.warning("desired.json is taken from its second copy")
        durable.write(self._path, _encode(models), point="store.desired")
        return models


def _encode(models: dict[str, Desired]) -> bytes:
    entries = tuple(_Entry(d.name, d.active, d.beside, d.previous) for _, d in sorted(models.items()))
    return msgspec.json.format(msgspec.json.encode(_File(FORMAT, entries)), indent=2) + b"\n"


def _read(path: Path) -> dict[str, Desired] | None:
    """None when the file isn't there, or is corrupt and was set aside."""
    try:
        file = _decoder.decode(path.read_bytes())
        if file.format != FORMAT:
            raise ValueError(f"format {file.format}, this version reads format {FORMAT}")
        return {entry.name: Desired(entry.name, entry.active, entry.beside, entry.previous) for entry in file.desired}
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        aside = durable.set_aside(path)
        _log.warning("%s cannot be read (%s): set aside as %s", path.name, error, aside.name)
        return None
