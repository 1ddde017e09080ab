"""state/desired.json: what should run of each model, across restarts. Owned by the store, asked for by the supervisor.

It cannot be rebuilt from anything else, so a second copy with the same content is kept beside it.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance import events
from appliance.osutil import durable
from appliance.store.aside import keep_aside
from appliance.versions import BadVersion, Desired, OnProbation

_log = logging.getLogger(__name__)

FORMAT = 1


class _Entry(msgspec.Struct, frozen=True):
    name: str
    active: str = ""
    beside: tuple[str, ...] = ()
    previous: str = ""
    # Not written where there is nothing to say: files of before they were thought of are as they would be written now.
    probation: OnProbation | msgspec.UnsetType = msgspec.UNSET
    quarantined: tuple[BadVersion, ...] | msgspec.UnsetType = msgspec.UNSET


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
        """Makes this what should run of one model; durable when it returns.

        With nothing to run it is forgotten, unless there are versions that must not run.
        """
        models = {**self.models, desired.name: desired}
        if not desired.active and not desired.beside and not desired.quarantined:
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
            _log.warning(
                "the second copy of desired.json could not be written: %s", error, extra=events.RECORD_NOT_KEPT.of()
            )

    def faults(self) -> list[tuple[Path, str]]:
        """What of the two files is not as it was written, and how. Raises OSError."""
        found = [(path, self._fault(path)) for path in (self._path, self._copy)]
        return [(path, wrong) for path, wrong in found if wrong]

    def level(self, is_stored: Callable[[str, str], bool]) -> None:
        """Writes the copy again where a power cut between the two writes has left it a step behind. Raises OSError."""
        kept = _decoded(self._copy) if self._copy.exists() else {}
        if kept is not None and kept != self.models and _all_stored(self.models, is_stored):
            durable.write(self._copy, _encode(self.models), point="store.desired_copy")

    def write_again(self, is_stored: Callable[[str, str], bool]) -> None:
        """Writes both files again; what is there instead is set aside. Raises OSError."""
        # Where what we know names versions that are not stored, and the copy doesn't, the copy is right: one of the two
        # has changed on the disk, and a version that was never stored cannot have been desired.
        kept = _decoded(self._copy)
        if kept is not None and not _all_stored(self.models, is_stored) and _all_stored(kept, is_stored):
            self.models = kept
        for path, _ in self.faults():
            keep_aside(path)
            durable.write(path, _encode(self.models), point="store.desired_again")

    def _fault(self, path: Path) -> str:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            return "is not a regular file"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return "is missing" if self.models else ""
        if data == _encode(self.models):
            return ""
        said = _decoded(path)
        if said is None:
            return "cannot be read"
        differs = sorted({*said.values()} ^ {*self.models.values()}, key=lambda desired: desired.name)
        theirs = [f"{d.name} {d.active or 'inactive'}" for d in differs if d.name in said and said[d.name] == d]
        return f"has other bytes than were written; it says {', '.join(theirs) or 'nothing else'}"

    def _load(self) -> dict[str, Desired]:
        models = _read(self._path)
        if models is not None:
            return models
        models = _read(self._copy)
        if models is None:
            models = {}
            if self._path.with_name(self._path.name + ".broken").exists():
                _log.error(
                    "what should run is not known any more: activate the models again",
                    extra=events.RECORD_SET_ASIDE.of(),
                )
            return models
        _log.warning("desired.json is taken from its second copy", extra=events.RECORD_SET_ASIDE.of())
        durable.write(self._path, _encode(models), point="store.desired")
        return models


def _encode(models: dict[str, Desired]) -> bytes:
    entries = tuple(_entry(d) for _, d in sorted(models.items()))
    return msgspec.json.format(msgspec.json.encode(_File(FORMAT, entries)), indent=2) + b"\n"


def _entry(d: Desired) -> _Entry:
    unset = msgspec.UNSET
    return _Entry(d.name, d.active, d.beside, d.previous, d.probation or unset, d.quarantined or unset)


def _desired(entry: _Entry) -> Desired:
    return Desired(
        entry.name, entry.active, entry.beside, entry.previous, entry.probation or None, entry.quarantined or ()
    )


def _all_stored(models: dict[str, Desired], is_stored: Callable[[str, str], bool]) -> bool:
    return all(is_stored(d.name, v) for d in models.values() for v in (d.active, *d.beside) if v)


def _decode(data: bytes) -> dict[str, Desired]:
    file = _decoder.decode(data)
    if file.format != FORMAT:
        raise ValueError(f"format {file.format}, this version reads format {FORMAT}")
    return {entry.name: _desired(entry) for entry in file.desired}


def _decoded(path: Path) -> dict[str, Desired] | None:
    """None when the file can't be read, for whatever reason."""
    try:
        return _decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _read(path: Path) -> dict[str, Desired] | None:
    """None when the file isn't there, or is corrupt and was set aside."""
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        aside = durable.set_aside(path)
        _log.warning(
            "%s cannot be read (%s): set aside as %s", path.name, error, aside.name, extra=events.RECORD_SET_ASIDE.of()
        )
        return None
