"""A root that nobody can write to, as flash in the field often is: with /var and its configuration writable, it serves."""

import client_models
import pytest
from installed_box import Box
from installed_disk import MODELS
from running import add, versions

WRITABLE = ("/var", "/etc/inference-appliance")
# A bind of a folder on itself stays writable when the root above it no longer is.
MOUNTS = [f"mount --bind {path} {path}" for path in WRITABLE] + ["mount -o remount,bind,ro /"]
UNIT = """[Unit]
DefaultDependencies=no
Before=local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
{commands}
[Install]
WantedBy=local-fs.target
"""


@pytest.fixture
def box(own_box: Box) -> Box:
    commands = "\n".join(f"ExecStart=/usr/bin/{mount}" for mount in MOUNTS)
    own_box.machine.path("/etc/systemd/system/read-only-root.service").write_text(UNIT.format(commands=commands))
    own_box.machine.run("systemctl", "enable", "read-only-root")
    own_box.machine.reboot()
    return own_box


def test_a_read_only_root(box: Box, tmp_path) -> None:
    refused = box.machine.run("touch", "/usr/lib/inference-appliance/x", check=False)
    assert "Read-only file system" in refused.stderr
    box.eventually(lambda: box.serves(*MODELS))
    add(box, client_models.fake(tmp_path, "late"))
    assert versions(box, "late") == {"1.0.0": ("ready", True)}
    box.systemctl("restart")
    box.eventually(lambda: box.serves(*MODELS, "late"))
    assert box.json("doctor")["verdict"] != "fail"
