"""A model folder appears whole or not at all: written beside its place under another name, proved there, then renamed."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from appliance.errors import AlreadyExists, FailedPrecondition
from appliance.osutil import durable


def check_place(target: Path, force: bool) -> None:
    """Raises AlreadyExists FOLDER_EXISTS unless the folder can be put at ``target``.

    ``force`` replaces a model folder, nothing else: somebody's home is not made way for a model.
    """
    if not os.path.lexists(target):
        return
    if not (target / "model.toml").is_file() or target.is_symlink():
        raise AlreadyExists(
            f"{target.name}: something that is no model folder is there already; name a folder that isn't there",
            reason="FOLDER_EXISTS",
        )
    if not force:
        raise AlreadyExists(f"the folder {target.name} exists; --force replaces it", reason="FOLDER_EXISTS")


@contextlib.contextmanager
def building(target: Path, force: bool) -> Iterator[Path]:
    """A folder to fill; renamed to ``target`` when the block ends well, removed when it doesn't."""
    check_place(target, force)
    work = durable.temp_beside(target)
    try:
        durable.mkdir(target.parent)
        durable.remove_tree(work)
        work.mkdir(0o755)
        yield work
        durable.sync_folder(work)
        check_place(target, force)  # it took a while
        if target.exists():
            old = target.with_name(f".{target.name}.{os.getpid()}.old{durable.TEMP_SUFFIX}")
            durable.rename(target, old)
            try:
                durable.rename(work, target)
            except OSError:
                durable.rename(old, target)
                raise
            durable.remove_tree(old)
        else:
            durable.rename(work, target)
    except OSError as error:
        raise FailedPrecondition(
            f"the folder {target.name} can't be written: {os.strerror(error.errno or 0)}", reason="FOLDER"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            durable.remove_tree(work)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Every file, synced; the folders between are made."""
    for path, data in files.items():
        durable.mkdir((folder / path).parent)
        durable.write(folder / path, data)
