"""Local blobs and the cache of what they are made of: read once, bounded, and never believed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from delta_box import MIB, entry_of, noise

from appliance import limits
from appliance.errors import Cancelled
from appliance.osutil import faults
from appliance.registry.delta import index, seeds
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Entry
from appliance.registry.delta.seeds import Seed, Seeds
from appliance.store.manifest import digest_of

OLD = noise(1, 2 * MIB)
WANTED = entry_of(noise(2, 2 * MIB))


class Shelf:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.beats = 0
        self.stop = False

    def put(self, data: bytes) -> Seed:
        hexadecimal = digest_of(data)[7:]
        path = self.folder / hexadecimal
        path.write_bytes(data)
        return Seed(hexadecimal, path, len(data))

    def entries(self, *given: Seed, wanted: Entry = WANTED) -> list[tuple[int, Entry]]:
        """``beats``: how many chunks had to be read for it."""
        self.beats = 0
        return list(Seeds(self.cache, given).entries(wanted, self._beat))

    def _beat(self) -> None:
        self.beats += 1
        if self.stop:
            raise Cancelled("stop")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_seed_is_read_once(shelf: Shelf) -> None:
    seed = shelf.put(OLD)
    assert shelf.entries(seed) == [(0, entry_of(OLD))]
    assert shelf.beats == entry_of(OLD).chunk_count
    assert shelf.entries(seed) == [(0, entry_of(OLD))]
    assert shelf.beats == 0


def test_it_is_cut_as_the_wanted_blob_is(shelf: Shelf) -> None:
    seed = shelf.put(OLD)
    shelf.entries(seed)
    wanted = Entry(bytes(32), 2 * MIB, 18, b"")
    assert shelf.entries(seed, wanted=wanted) == [(0, entry_of(OLD, 18))]
    assert len(list(shelf.cache.iterdir())) == 2


def _other_blob(path: Path) -> None:
    path.write_bytes(index.encode([entry_of(noise(3, 2 * MIB))]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(os.urandom(2000)),
        lambda path: path.write_bytes(bytes(limits.delta_index_bytes_max + 1)),
        lambda path: path.write_bytes(index.encode([entry_of(OLD, 18)])),
        lambda path: path.chmod(0o000) or path.write_bytes(b"x"),
        lambda path: path.unlink() or path.symlink_to("/etc/passwd"),
        _other_blob,
    ],
    ids=["empty", "cut", "noise", "huge", "other bits", "mode", "link", "other blob"],
)
def test_a_spoilt_cache_is_made_anew(shelf: Shelf, spoil: Callable[[Path], object]) -> None:
    seed = shelf.put(OLD)
    shelf.entries(seed)
    [path] = shelf.cache.iterdir()
    spoil(path)
    for beats in (entry_of(OLD).chunk_count, 0):
        assert shelf.entries(seed) == [(0, entry_of(OLD))]
        assert shelf.beats == beats
    assert not path.is_symlink()


@pytest.mark.parametrize(
    "point", ["delta.cache.write", "delta.cache.fsync", "delta.cache.rename", "delta.cache.folder"]
)
def test_a_disk_without_room_costs_the_cache_only(shelf: Shelf, point: str) -> None:
    seed = shelf.put(OLD)
    faults.arm(f"{point}=enospc")
    try:
        assert shelf.entries(seed) == [(0, entry_of(OLD))]
    finally:
        faults.arm("")


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, _to_fifo, _to_link, _to_folder, lambda path: path.write_bytes(b"short"),
     lambda path: path.write_bytes(OLD + b"x")],
    ids=["gone", "fifo", "link", "folder", "short", "long"],
)  # fmt: skip
def test_a_seed_that_is_not_there_is_left_out(shelf: Shelf, spoil: Callable[[Path], object]) -> None:
    seed, other = shelf.put(OLD), shelf.put(noise(4, 2 * MIB))
    spoil(seed.path)
    assert [number for number, _ in shelf.entries(seed, other)] == [1]
    with pytest.raises(DeltaFailed) as caught:
        Seeds(shelf.cache, [seed, other]).read(0, 0, 10)
    assert caught.value.reason == "SEED"


def test_reading_can_be_stopped(shelf: Shelf) -> None:
    shelf.stop = True
    with pytest.raises(Cancelled):
        shelf.entries(shelf.put(OLD))
    shelf.stop = False
    assert shelf.entries(shelf.put(OLD))


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([2 * MIB], [0]),
        ([0, 1, MIB - 1, MIB], [3]),
        ([8 * MIB, 2 * MIB], [0]),  # four times the wanted one, then nothing more
        ([8 * MIB + 1, 2 * MIB], [1]),
        ([5 * MIB, 5 * MIB, 3 * MIB], [0, 2]),
        ([MIB] * 20, list(range(8))),
        ([], []),
    ],
)
def test_seeds_are_bounded(sizes: list[int], chosen: list[int]) -> None:
    given = [Seed("0" * 64, Path("/nowhere"), size) for size in sizes]
    assert seeds.choose(given, WANTED) == chosen


def test_what_is_forgotten_is_read_again(shelf: Shelf) -> None:
    seed = shelf.put(OLD)
    shelf.entries(seed)
    Seeds(shelf.cache, [seed]).forget(0)
    shelf.entries(seed)
    assert shelf.beats > 0


def test_tidy_keeps_what_is_still_stored(shelf: Shelf) -> None:
    kept, gone = shelf.put(OLD), shelf.put(noise(5, 2 * MIB))
    shelf.entries(kept, gone)
    (shelf.cache / ".x.1.tmp").write_bytes(b"left by a kill")
    (shelf.cache / "README").write_bytes(b"somebody else's")
    seeds.tidy(shelf.cache, {kept.hex})
    assert sorted(path.name for path in shelf.cache.iterdir()) == sorted(["README", f"{kept.hex}.16.chunks"])
    seeds.tidy(shelf.folder / "nowhere", set())
