"""A required model that is not there yet: the unit waits for it as long as it takes, and no package manager waits with it."""

import time

from built_packages import Packages
from installed_box import Box

_PATIENCE_S = 45.0


def test_an_upgrade_ends_while_a_required_model_is_missing(own_box: Box, built: Packages) -> None:
    own_box.configure("50-site", '[models]\nrequired = ["absent"]\n')
    own_box.machine.put(built.deb, "/run/appliance.deb")
    began = time.monotonic()
    done = own_box.machine.run("dpkg", "--install", "/run/appliance.deb", seconds=_PATIENCE_S)
    took = time.monotonic() - began
    assert own_box.active == "activating"
    assert "systemctl status inference-appliance" in done.stdout + done.stderr
    assert "absent" in own_box.show("StatusText")
    assert own_box.serves("breast-cancer")  # what is there answers
    print(f"dpkg took {took:.1f} s")
