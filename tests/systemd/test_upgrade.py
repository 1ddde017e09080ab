"""The package is replaced while clients call: running calls end, no patient client sees a failure, nothing is forgotten."""

from pathlib import Path

import client_models
import numpy as np
import pytest
from built_packages import Packages
from installed_box import Box
from installed_disk import MODELS
from other_version import SITE, other_version
from running import add, deactivate
from traffic import PATIENT, Traffic, fp32

CONFIG = "etc/inference-appliance/appliance.toml"
SLOW_MS = 700
FEATURES = fp32(np.ones((1, 30)), "features")


@pytest.fixture(scope="module")
def newer(built: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next version, whose packaged configuration has changed."""
    edits = {CONFIG: [("\n[models]\n", "\n# New in this version.\n[models]\n")]}
    return other_version(built.deb, tmp_path_factory.mktemp("newer"), "0.1.1", edits)


@pytest.fixture(scope="module")
def newest(built: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version that has another format of the state."""
    edits = {
        f"{SITE}/state/upgrade.py": [("{1: _carries_its_format}", "{1: _carries_its_format, 2: _carries_its_format}")],
        f"{SITE}/state/stamp.py": [("\nFORMAT = 2\n", "\nFORMAT = 3\n")],
    }
    return other_version(built.deb, tmp_path_factory.mktemp("newest"), "0.2.0", edits)


def dpkg_install(box: Box, deb: Path) -> str:
    """As unattended upgrades do it; what it said."""
    box.machine.put(deb, f"/run/{deb.name}")
    options = ("--force-confdef", "--force-confold")
    done = box.machine.run("dpkg", *options, "--install", f"/run/{deb.name}", seconds=45)
    return done.stdout + done.stderr


def test_an_upgrade_under_load_and_back(own_box: Box, built: Packages, newer: Path, tmp_path: Path) -> None:
    box = own_box
    add(box, client_models.fake(tmp_path, "slow", delay_ms=SLOW_MS))
    config = box.machine.path(f"/{CONFIG}")
    edited = config.read_text().replace("#required = []", 'required = ["breast-cancer"]')
    config.write_text(edited)
    for deb, version in ((newer, "0.1.1"), (built.deb, "0.1.0")):
        patient = Traffic(box.address, "breast-cancer", 1, FEATURES, "label", options=PATIENT)
        with patient, Traffic(box.address, "slow", threads=1) as slow:
            before = box.pid
            dpkg_install(box, deb)
            assert box.active == "active"
            assert box.status().version == version
            assert box.pid != before
            patient.more(4)
        assert patient.errors == []
        # Without patience: the call that ran came to its end, and those after it were told that nobody is there.
        stopping = int(box.show("ActiveExitTimestampMonotonic")) / 1e6
        assert [answer for answer in slow.answers if answer.began < stopping < answer.ended]
        assert [error for error in slow.errors if error.began < stopping] == []
        assert {error.status for error in slow.errors} <= {"StatusCode.UNAVAILABLE"}
        box.eventually(lambda: box.serves(*MODELS, "slow"))
        assert config.read_text() == edited
        packaged = box.machine.path(f"/{CONFIG}.dpkg-dist").read_text()
        assert ("# New in this version." in packaged) is (deb == newer)


def test_a_version_that_does_not_know_the_state_says_the_way_back(own_box: Box, built: Packages, newest: Path) -> None:
    box = own_box
    dpkg_install(box, newest)
    box.eventually(lambda: box.serves(*MODELS))
    assert box.json("state", "show")["format"] == 3
    deactivate(box, "says")

    dpkg_install(box, built.deb)
    assert (box.active, box.show("ExecMainStatus"), box.show("NRestarts")) == ("failed", "7", "0")
    told = box.machine.run("systemctl", "status", "inference-appliance", check=False).stdout
    assert "appliance state restore format-2-of-0.1.0" in told

    # As it was before the upgrade, "says" included.
    box.machine.run("appliance", "state", "restore", "format-2-of-0.1.0")
    box.systemctl("start")
    box.eventually(lambda: box.serves(*MODELS))
    assert box.json("store", "check")["sound"]
