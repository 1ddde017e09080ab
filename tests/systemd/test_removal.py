"""What is left: removal keeps models and configuration, a purge leaves nothing, and what is installed again serves again."""

from built_packages import Packages
from installed_box import STATE, UNIT, Box
from installed_disk import MODELS

_FOLDERS = [f"/{place}/inference-appliance" for place in ("etc", "var/lib", "var/cache", "var/log")]


def dpkg(box: Box, *words: str) -> None:
    done = box.machine.run("dpkg", *words, seconds=120)
    assert "warning" not in done.stdout + done.stderr, done.stdout + done.stderr


def there(box: Box, *paths: str) -> list[str]:
    return [path for path in paths if box.machine.path(path).exists()]


def test_remove_install_purge(own_box: Box, built: Packages) -> None:
    box = own_box
    box.configure("50-site", '[models]\nrequired = ["says"]\n')
    kept = there(box, *_FOLDERS, f"{STATE}/store")
    assert f"{STATE}/store" in kept

    dpkg(box, "--remove", "inference-appliance")
    assert there(box, *_FOLDERS, f"{STATE}/store") == kept
    assert there(box, "/usr/lib/inference-appliance", "/usr/bin/appliance", "/run/inference-appliance") == []
    assert box.show("LoadState") == "not-found"
    assert box.machine.run("pgrep", "--full", "appliance", check=False).stdout == ""

    box.machine.put(built.deb, "/run/appliance.deb")
    dpkg(box, "--install", "/run/appliance.deb")
    assert box.active == "active"
    assert box.serves("says")  # is required
    box.eventually(lambda: box.serves(*MODELS))
    assert "required" in box.machine.path("/etc/inference-appliance/conf.d/50-site.toml").read_text()

    dpkg(box, "--purge", "inference-appliance")
    assert there(box, *_FOLDERS, "/usr/lib/inference-appliance", "/run/inference-appliance") == []
    listed = box.machine.run("systemctl", "list-unit-files", "--no-legend", UNIT, check=False).stdout
    assert listed == ""
    left = box.machine.run("find", "/etc", "/usr", "/var", "-xdev", "-name", "*inference-appliance*").stdout
    assert left == ""
