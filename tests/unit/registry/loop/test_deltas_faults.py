"""Updates with a delta that are stopped, killed, run out of disk, or lose a seed in the middle: the same call completes them."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from delta_box import MIB
from delta_rig import NEW, OLD, Headquarters, Machine

from appliance.errors import Cancelled, ResourceExhausted
from appliance.osutil import faults
from appliance.registry.delta import rebuild
from appliance.registry.delta.seeds import Seeds
from appliance.registry.loop import deltas


@pytest.mark.parametrize("how", ["goes", "rots", "is a folder", "shrinks"])
def test_a_seed_that_is_lost_in_the_middle(
    headquarters: Headquarters, machine: Machine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What the index of the old blob said is believed until its bytes are seen."""
    (seed,) = [path for path in machine.store.blobs.folder.iterdir() if path.stat().st_size == len(OLD)]
    read, count = Seeds.read, [0]

    def reading(self: Seeds, number: int, offset: int, length: int) -> bytes:
        count[0] += 1
        if count[0] == 20:
            data = seed.read_bytes()
            seed.unlink()
            if how == "rots":
                seed.write_bytes(data[: 3 * MIB] + bytes(len(data) - 3 * MIB))
            elif how == "is a folder":
                seed.mkdir()
            elif how == "shrinks":
                seed.write_bytes(data[:100])
        return read(self, number, offset, length)

    monkeypatch.setattr(Seeds, "read", reading)
    release = headquarters.release("2.0.0", NEW)
    machine.shown.clear()
    machine.errands.bring(release)
    (blob,) = [
        path for path in machine.store.blobs.folder.iterdir() if path.is_file() and path.stat().st_size == len(NEW)
    ]
    assert blob.read_bytes() == NEW
    # What was right by then is not fetched: only the rest is.
    assert headquarters.registry.sent < len(NEW) - MIB / 2
    assert machine.shown == sorted(machine.shown)


def test_stopped_in_the_middle_it_goes_on_there(headquarters: Headquarters, machine: Machine) -> None:
    release = headquarters.release("2.0.0", NEW)
    machine.errands.stop_at = 3 * MIB
    with pytest.raises(Cancelled):
        machine.errands.bring(release)
    assert 0 < headquarters.registry.sent < MIB
    machine.errands.stop_at = -1
    machine.bring(release)
    assert machine.holds(release, NEW)
    assert headquarters.registry.sent < len(NEW) * 0.06


def test_a_full_disk_is_told_and_any_other_failure_is_not(
    headquarters: Headquarters, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = headquarters.release("2.0.0", NEW)
    for point, fails in (("delta.write=enospc@5", True), ("delta.write=eio@5", False), ("delta.begin=eio", False)):
        faults.arm(point)
        try:
            if fails:
                with pytest.raises(ResourceExhausted):
                    machine.errands.bring(release)
            else:
                machine.errands.bring(release)
        finally:
            faults.arm("")
    machine.bring(release)
    assert machine.holds(release, NEW)

    def bug(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    for number, (module, name) in enumerate([(rebuild, "rebuild"), (deltas.local, "seeds")]):
        monkeypatch.setattr(module, name, bug)
        release = headquarters.release(f"3.0.{number}", NEW + b"more" * (number + 1))
        machine.bring(release)
        assert machine.holds(release, NEW + b"more" * (number + 1))


_KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import msgspec
from delta_rig import Machine
from appliance.registry.release import Release
Machine(Path({folder!r}), {url!r}).bring(msgspec.json.decode({release!r}, type=Release))
"""
POINTS = [
    *(f"delta.{point}" for point in ("begin", "truncate", "write", "write@30", "write@60", "sync")),
    *(f"delta.cache.{point}" for point in ("write", "fsync", "rename", "folder")),
    "pull.sync",
    "pull.take",
    "store.blob.rename",
]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_moment_it_is_completed_by_the_next_run(
    headquarters: Headquarters, machine: Machine, tmp_path: Path, point: str
) -> None:
    release = headquarters.release("2.0.0", NEW)
    code = _KILLED.format(
        path=[str(Path(__file__).parents[4]), *sys.path],
        folder=str(tmp_path),
        url=headquarters.registry.url,
        release=msgspec.json.encode(release),
    )
    name, _, nth = point.partition("@")
    environment = {"APPLIANCE_FAULTS": f"{name}=kill" + (f"@{nth}" if nth else "")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False)
    assert done.returncode == -9
    again = Machine(tmp_path, headquarters.registry.url)
    again.bring(release)
    assert again.holds(release, NEW)
    assert again.partial == []
    assert headquarters.registry.sent < len(NEW) * 0.08  # twice, at most
