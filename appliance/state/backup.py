"""What goes back to an older format: a copy of what says which models there are and which run, made before an upgrade.

    STATE/backups/NAME/ with format.json, store/index.json, state/*.json, comparisons.json as they were

Models themselves are not copied: blobs never change, and what an upgrade's garbage collection may have taken since,
`appliance store repair` fetches. Nor is ``trust``: which releases were revoked, and how late it is, must not go back.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from appliance import limits
from appliance.errors import FailedPrecondition, NotFound
from appliance.osutil import durable
from appliance.state import stamp as stamps
from appliance.state.stamp import Stamp

BACKUPS = "backups"
# Names the backup that was made before a restore which has not come to its end.
_RESTORING = "restoring"
# Files below the state folder, by pattern.
_COPIED = ("store/index.json", "store/oci-layout", "state/*.json", "comparisons.json")


def name_of(stamp: Stamp) -> str:
    """How the backup of a folder with this stamp is called: "format-1", or "format-2-of-0.1.0"."""
    return f"format-{stamp.format}" + (f"-of-{stamp.written_by}" if stamp.written_by else "")


def names(state: Path) -> tuple[str, ...]:
    """The backups that are complete, the oldest first."""
    folder = state / BACKUPS
    try:
        found = [p for p in folder.iterdir() if not durable.is_temp(p.name) and (p / stamps.FORMAT_FILE).exists()]
    except FileNotFoundError:
        return ()
    return tuple(p.name for p in sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.name)))


def make(state: Path, stamp: Stamp, keep: str = "") -> str:
    """Copies what counts; returns the backup's name. It is there whole or not at all. Raises OSError.

    One of the same name is made anew; of others the newest few stay, and ``keep``.
    """
    name = name_of(stamp)
    target = state / BACKUPS / name
    temp = durable.temp_beside(target)
    durable.remove_tree(temp)
    durable.mkdir(temp)
    for path in _files(state):
        copy = temp / path.relative_to(state)
        durable.mkdir(copy.parent)
        durable.write(copy, path.read_bytes(), mode=0o600, point="state.backup")
    # Last: it says that the copy is complete.
    stamps.write(temp, stamp)
    durable.remove_tree(target)
    durable.rename(temp, target)
    for old in names(state)[: -limits.state_backups_max]:
        if old != keep:
            durable.remove_tree(state / BACKUPS / old)
    return name


def restore(state: Path, name: str) -> Stamp:
    """Puts a backup in place; returns the stamp that the folder has then. The daemon must not run.

    What is there now is kept as a backup of its own first. To be done again when it was interrupted: the stamp is the
    last that changes. Raises NotFound, FailedPrecondition, OSError.
    """
    source = state / BACKUPS / name
    if name not in names(state):
        there = ", ".join(names(state)) or "none"
        raise NotFound(f"there is no backup {name!r} in {state / BACKUPS} (there: {there})", reason="NO_BACKUP")
    stamp = stamps.read(source)
    now = stamps.read(state)
    if stamp is None or now is None:
        raise FailedPrecondition(f"{state} has no state to replace: is it the right folder?", reason="STATE_FORMAT")
    _keep(state, now, name)
    kept = {path.relative_to(source) for path in _files(source)}
    for relative in sorted(kept):
        target = state / relative
        durable.mkdir(target.parent)
        durable.write(target, (source / relative).read_bytes(), point="state.restore")
    for path in _files(state):
        # The newer format may have files that the older one would take for its own.
        if path.relative_to(state) not in kept:
            path.unlink()
    stamps.write(state, stamp)
    (state / BACKUPS / _RESTORING).unlink(missing_ok=True)
    _own(state)
    return stamp


def _keep(state: Path, now: Stamp, wanted: str) -> None:
    """A backup of what is there, unless it is half of another restore's: then the first one's has it whole."""
    marker = state / BACKUPS / _RESTORING
    if marker.exists() or name_of(now) == wanted:
        return
    name = make(state, now, keep=wanted)
    durable.write(marker, name.encode(), point="state.backup")


def _files(folder: Path) -> Iterator[Path]:
    for pattern in _COPIED:
        yield from sorted(p for p in folder.glob(pattern) if p.is_file() and not p.is_symlink())


def _own(state: Path) -> None:
    """Root restores for the service's user: what it wrote must be that user's, as the folder is."""
    owner = state.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in (*_files(state), state / stamps.FORMAT_FILE, state / BACKUPS, *(state / BACKUPS).rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
