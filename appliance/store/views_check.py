"""Whether a view shows the very blobs of its version, and mending it name by name under an engine that uses it."""

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.store import manifest
from appliance.store.blobs import Tick, sha256_of
from appliance.store.manifest import Descriptor
from appliance.store.parts import Parts

Faults = list[tuple[str, str]]


class Linking:
    """Whether the file system has hard links: where it hasn't, a view rightly holds copies. Tried when first asked."""

    def __init__(self, parts: Parts) -> None:
        self._folder = parts.views.root
        self._works: bool | None = None

    @property
    def works(self) -> bool:
        """Leaves nothing behind but, after a kill, left-overs for the next collection."""
        if self._works is None:
            self._works = self._try()
        return self._works

    def _try(self) -> bool:
        first, second = (durable.temp_beside(self._folder / name) for name in ("link-from", "link-to"))
        try:
            with durable.open_new(first, 0o600):
                os.link(first, second)
        except PermissionError:
            return False
        except OSError:  # a full disk says nothing about links
            return True
        finally:
            for path in (first, second):
                with contextlib.suppress(OSError):
                    path.unlink()
        return True


def faults(
    parts: Parts, view: Path, layers: Iterable[Descriptor], sound: Iterable[Descriptor], linking: Linking, tick: Tick
) -> Faults:
    """What is wrong with a view, as (the model's file, what); the file "" is the folder.

    ``layers`` should be there; of these only ``sound`` are compared: the others' blobs are damaged themselves.
    """
    if not _is_folder(view):
        return [("", "is missing" if not os.path.lexists(view) else "is not a folder")]
    found: Faults = []
    for layer in sound:
        path = manifest.file_path(layer)
        wrong = _name_fault(parts, view, path, layer, linking, tick)
        if wrong:
            found.append((path, wrong))
    allowed = {manifest.file_path(layer) for layer in layers}
    found += [(path, "does not belong to the model") for path in strangers(view, allowed)]
    return found


def strangers(view: Path, allowed: set[str]) -> list[str]:
    """Files and links in a view that are not among its model's, and folders that hold none of them."""
    folders = {parent for path in allowed for parent in _parents(path)}
    found = []
    for at, inner, files in os.walk(view):
        for name in (*inner, *files):
            path = (Path(at) / name).relative_to(view).as_posix()
            if path not in (folders if _is_folder(Path(at) / name) else allowed):
                found.append(path)
        inner[:] = [name for name in inner if (Path(at) / name).relative_to(view).as_posix() in folders]
    return sorted(found)


def mend(parts: Parts, view: Path, layers: tuple[Descriptor, ...], sound: tuple[Descriptor, ...]) -> None:
    """Lets a view show its blobs again, name by name: an engine that has an old file open keeps it. Raises OSError."""
    if not _is_folder(view):
        if os.path.lexists(view):
            view.unlink()
        parts.views.ensure(view, layers)
        return
    for path in strangers(view, {manifest.file_path(layer) for layer in layers}):
        _remove(view / path)
    linking = Linking(parts)
    for layer in sound:
        path = manifest.file_path(layer)
        if _name_fault(parts, view, path, layer, linking, lambda _: None):
            _relink(parts, view, path, layer)


def _relink(parts: Parts, view: Path, path: str, layer: Descriptor) -> None:
    for parent in reversed(_parents(path)):
        folder = view / parent
        if not _is_folder(folder):
            _remove(folder)
            durable.mkdir(folder)
    target = view / path
    temp = durable.temp_beside(view)  # not inside, where a kill would leave it to whoever lists the view
    _remove(temp)
    try:
        parts.views.link(layer, temp)
        if _is_folder(target):
            durable.remove_tree(target)
        fault_point("store.view.relink")
        # Of two names of one file rename(2) would do nothing; they are not, or there would be nothing to mend.
        temp.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise
    fault_point("store.view.folder")
    durable.sync_folder(target.parent)


def _name_fault(parts: Parts, view: Path, path: str, layer: Descriptor, linking: Linking, tick: Tick) -> str:
    if not all(_is_folder(view / parent) for parent in _parents(path)):
        return "lies behind something that is not a folder"
    try:
        there, blob = (view / path).lstat(), parts.blobs.path(layer.hex).lstat()
    except FileNotFoundError:
        return "is missing"
    if (there.st_dev, there.st_ino) == (blob.st_dev, blob.st_ino):
        return ""
    if not stat.S_ISREG(there.st_mode):
        return "is not a file"
    if linking.works:
        return "is another file than the blob"
    return "" if there.st_size == blob.st_size and _sha256(view / path, tick) == layer.hex else "has other bytes"


def _sha256(path: Path, tick: Tick) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return sha256_of(fd, tick)
    finally:
        os.close(fd)


def _parents(path: str) -> list[str]:
    """All folders above a file, the nearest first: a/b of a/b/c, then a."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if _is_folder(path):
        durable.remove_tree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
