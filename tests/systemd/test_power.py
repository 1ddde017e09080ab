"""Reboot and power cut in the middle of a model's update: what serves afterwards is the old or the new version, then the new."""

from pathlib import Path

import pytest
from installed_box import STATE, UNIT, Box
from site_rig import Site

# The bytes, the index of what is stored, what should run: killed there, then the whole machine.
POINTS = ("pull.write", "store.index.rename", "store.desired.rename")
FAULTS = "99-faults"


@pytest.fixture
def site(own_box: Box, tmp_path: Path) -> Site:
    made = Site(own_box, tmp_path)
    made.join()
    # Only now: it would not be "active" before this model has come. With it, "active" means that press answers.
    own_box.configure("65-required", '[models]\nrequired = ["press"]\n')
    return made


def test_power_cuts_during_updates(site: Site) -> None:
    for old, point in enumerate(POINTS, 1):
        cut_during_update(site, old, old + 1, point)
    assert site.box.json("store", "check")["sound"]


def cut_during_update(site: Site, old: int, new: int, point: str) -> None:
    """From version ``old`` to ``new``: the sync process dies each time that it comes to ``point``."""
    box = site.box
    box.drop_in(FAULTS, f"[Service]\nEnvironment=APPLIANCE_FAULTS={point}=kill\n")
    box.systemctl("restart")
    site.release(f"{new}.0.0", 10 * new)
    box.eventually(lambda: "signal 9" in box.machine.journal("--unit", UNIT, "--lines=20"), what=point)
    assert site.answer() == 10 * old + 1
    # The fault is gone with the power.
    box.machine.path(f"/etc/systemd/system/{UNIT}.d/{FAULTS}.conf").unlink()
    box.machine.power_cut()
    box.machine.boot()
    box.eventually(lambda: box.active == "active")
    assert site.answer() in (10 * old + 1, 10 * new + 1)
    box.eventually(lambda: site.runs(f"{new}.0.0"), what=f"the update that was cut at {point}")
    assert site.answer() == 10 * new + 1


def test_a_reboot_during_an_update(site: Site) -> None:
    box = site.box
    box.configure("70-slow", "[registry]\nbandwidth_kib_s = 64\n")
    box.systemctl("restart")
    site.release("2.0.0", 20, ballast_bytes=2**20)
    partial = box.machine.path(f"{STATE}/partial")
    box.eventually(lambda: any(path.stat().st_size > 2**16 for path in partial.glob("*.partial")))
    box.machine.path("/etc/inference-appliance/conf.d/70-slow.toml").unlink()
    box.machine.reboot()
    box.eventually(lambda: box.active == "active")
    assert site.answer() in (11, 21)
    box.eventually(lambda: site.runs("2.0.0"))
    assert site.answer() == 21
