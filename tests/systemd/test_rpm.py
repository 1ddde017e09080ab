"""The .rpm under a booted systemd: installed, started, upgraded and removed by rpm itself, and models are kept.

In Debian's files, which have rpm: dependencies are Debian's own there, so --nodeps.
"""

from collections.abc import Iterator
from pathlib import Path

import client_models
import pytest
from built_packages import Packages
from installed_box import STATE, Box
from machine import Machine

_FILE = "/run/appliance.rpm"


@pytest.fixture(scope="module")
def box(root: Path, built: Packages) -> Iterator[Box]:
    with Machine(root) as machine:
        machine.put(built.rpm, _FILE)
        yield Box(machine)


def rpm(box: Box, *words: str) -> None:
    done = box.machine.run("rpm", *words, seconds=120)
    said = (done.stdout + done.stderr).lower()
    assert not any(word in said for word in ("warning", "error", "failed")), said


def test_install_upgrade_remove(box: Box, tmp_path: Path) -> None:
    rpm(box, "--install", "--nodeps", _FILE)
    assert (box.show("UnitFileState"), box.active) == ("enabled", "inactive")  # what is customary there
    box.systemctl("start")
    box.machine.put(client_models.tiny(tmp_path, "says", script=b"helo w"), "/run/says")
    box.machine.run("appliance", "models", "add", "/run/says")
    assert box.serves("says")

    before = box.pid
    rpm(box, "--upgrade", "--replacepkgs", "--nodeps", _FILE)
    assert box.active == "active"
    assert box.pid != before
    box.eventually(lambda: box.serves("says"))

    rpm(box, "--erase", "inference-appliance")
    assert box.show("LoadState") == "not-found"
    assert box.machine.run("pgrep", "--full", "appliance", check=False).stdout == ""
    assert box.machine.path(f"{STATE}/store").exists()
    assert not box.machine.path("/usr/lib/inference-appliance").exists()

    rpm(box, "--install", "--nodeps", _FILE)
    box.systemctl("start")
    box.eventually(lambda: box.serves("says"))
