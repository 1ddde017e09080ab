"""Mark and sweep: first a plan of what nothing needs (nothing written), then the removal.

Roots are the index and the pins: functions of others that name blobs which must stay, such as those of a pull under way
or of a version that a journal will activate. Every removal is one unlink or one rename, and whatever a kill leaves is
garbage again: the next collection takes it.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from appliance import limits
from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.store import manifest
from appliance.store.manifest import Descriptor
from appliance.store.parts import Parts
from appliance.store_questions import GarbageItem, GarbageReport

# Digests (with or without "sha256:") of blobs that must stay. What a pinned manifest names is pinned with it.
# A pin that can't tell raises OSError: then nothing is removed.
Pins = Callable[[], Iterable[str]]

_SET_ASIDE = re.compile(r"\.broken(\.\d+)?")


class Item(NamedTuple):
    """One thing to remove. ``kind``: "blob", "view", "left-over" or "set-aside"; bytes that become free by it."""

    kind: str
    path: Path
    size: int


class Plan(NamedTuple):
    """What to remove; ``kept`` says, one sentence for each version concerned, why no blob can be removed."""

    items: tuple[Item, ...]
    kept: tuple[str, ...] = ()


def is_set_aside(name: str) -> bool:
    """Whether a file of this name was corrupt and set aside (durable.set_aside)."""
    return _SET_ASIDE.search(name) is not None


def plan(parts: Parts, pins: Iterable[Pins] = (), *, set_aside: bool = False) -> Plan:
    """What nothing needs now; with ``set_aside`` also what was corrupt. Raises OSError, and whatever a pin raises."""
    used, kept = _mark(parts)
    for pin in pins:
        for digest in pin():
            used.update(_reached(parts, digest.removeprefix("sha256:")))
    items = [*_left_overs(parts), *_unused_views(parts)]
    if not kept:
        items += _unused_blobs(parts, used)
    if set_aside:
        items += _broken(parts)
    return Plan(tuple(items), tuple(kept))


def carry_out(doomed: Plan, beat: Callable[[], None] = lambda: None) -> None:
    """Removes what was planned. Raises OSError; what is left then is garbage as before."""
    for item in doomed.items:
        fault_point(f"store.sweep.{item.kind}")
        if item.kind == "view":
            _remove_view(item.path)
        else:
            with contextlib.suppress(FileNotFoundError):
                _remove(item.path)
        beat()


def report(parts: Parts, doomed: Plan, *, dry_run: bool) -> GarbageReport:
    """The plan in the words of the answer."""
    shown = doomed.items[: limits.store_report_entries_max]
    return GarbageReport(
        dry_run=dry_run,
        items=tuple(GarbageItem(item.kind, parts.place(item.path), item.size) for item in shown),
        item_count=len(doomed.items),
        bytes_freed=sum(item.size for item in doomed.items),
        kept=doomed.kept[: limits.store_report_entries_max],
    )


def broken(parts: Parts) -> list[tuple[Path, int]]:
    """All that was set aside, with its bytes."""
    return [(item.path, item.size) for item in _broken(parts)]


# --- mark ------------------------------------------------------------------------------------------------------------


def _mark(parts: Parts) -> tuple[set[str], list[str]]:
    """The blobs of all versions, and a sentence for every version of which that can't be said."""
    used: set[str] = set()
    kept = []
    for (name, version), entry in sorted(parts.index.refs.items()):
        reached = _reached(parts, entry.hex, entry.size)
        used.update(reached)
        if len(reached) == 1:
            kept.append(
                f"{name}:{version} has no readable manifest, so which blobs it needs is not known: repair the store, "
                "add its folder again or remove it"
            )
    return used, kept


def _reached(parts: Parts, sha256: str, size: int | None = None) -> set[str]:
    """A blob, and what it names if it is a manifest (a readable one names its config at least)."""
    size = parts.blobs.size(sha256) if size is None else size
    data = None
    if 0 <= size <= limits.manifest_bytes_max:
        data = parts.blobs.read(Descriptor(manifest.MANIFEST_TYPE, f"sha256:{sha256}", size))
    try:
        parsed = manifest.parse(data or b"")
    except manifest.BadManifest:
        return {sha256}
    return {sha256, parsed.config.hex, *(layer.hex for layer in parsed.layers)}


# --- what nothing needs ----------------------------------------------------------------------------------------------


def _left_overs(parts: Parts) -> Iterator[Item]:
    for folder in (*parts.folders, parts.views.root):
        for entry in _entries(folder):
            if durable.is_temp(entry.name):
                yield Item("left-over", Path(entry.path), _own_bytes(entry))


def _unused_blobs(parts: Parts, used: set[str]) -> Iterator[Item]:
    for entry in _entries(parts.blobs.folder):
        if manifest.is_hex(entry.name) and entry.name not in used and not entry.is_dir(follow_symlinks=False):
            yield Item("blob", Path(entry.path), entry.stat(follow_symlinks=False).st_size)


def _unused_views(parts: Parts) -> Iterator[Item]:
    used = {parts.views.path(name, version, entry.digest) for (name, version), entry in parts.index.refs.items()}
    for model in _entries(parts.views.root):
        if model.is_dir(follow_symlinks=False) and not durable.is_temp(model.name):
            views = _entries(Path(model.path))
            if not views:  # what a kill between the last view's removal and its folder's leaves
                yield Item("left-over", Path(model.path), 0)
            for view in views:
                if not view.is_dir(follow_symlinks=False):
                    if durable.is_temp(view.name):
                        yield Item("left-over", Path(view.path), _own_bytes(view))
                elif Path(view.path) not in used:
                    # The bytes are those of blobs, but for copies on a file system without hard links.
                    yield Item("view", Path(view.path), _tree_bytes(Path(view.path)))


def _broken(parts: Parts) -> Iterator[Item]:
    for folder in parts.folders:
        for entry in _entries(folder):
            if is_set_aside(entry.name):
                yield Item("set-aside", Path(entry.path), _own_bytes(entry))


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _own_bytes(entry: "os.DirEntry[str]") -> int:
    """What removing it frees: a file with another name goes on to take its room."""
    if entry.is_dir(follow_symlinks=False):
        return _tree_bytes(Path(entry.path))
    status = entry.stat(follow_symlinks=False)
    return status.st_size if status.st_nlink == 1 else 0


def _tree_bytes(root: Path) -> int:
    return sum(_own_bytes(e) for folder, _, _ in os.walk(root) for e in os.scandir(folder) if not e.is_dir())


# --- sweep -----------------------------------------------------------------------------------------------------------


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        durable.remove_tree(path)
    else:
        path.unlink()


def _remove_view(view: Path) -> None:
    # Out of its place first, so that nobody finds half of a view there.
    doomed = view if durable.is_temp(view.name) else view.rename(durable.temp_beside(view))
    durable.remove_tree(doomed)
    with contextlib.suppress(OSError):  # not empty
        view.parent.rmdir()
