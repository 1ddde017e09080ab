"""/var is full: updates are refused in plain words, serving goes on, a start goes well, and room is all it takes."""

import shutil
from pathlib import Path

from installed_box import Box
from installed_disk import MODELS
from site_rig import Site

VAR_MIB = 160
MIB = 2**20


def small_var(box: Box) -> None:
    """Puts /var with all that is in it on a disk of its own. The service does not run meanwhile."""
    run = box.machine.run
    run("journalctl", "--relinquish-var")  # what it writes can still be read
    run("mount", "-t", "tmpfs", "-o", f"size={VAR_MIB}m,mode=755", "tmpfs", "/mnt")
    run("cp", "-a", "/var/.", "/mnt/")
    run("mount", "--bind", "/mnt", "/var")


def fill(box: Box) -> Path:
    """Takes the disk's last byte; the file that does it."""
    filler = box.machine.path("/var/filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(MIB))
        except OSError:
            assert shutil.disk_usage(filler.parent).free == 0
    return filler


def test_a_full_var(own_box: Box, tmp_path: Path) -> None:
    box, site = own_box, Site(own_box, tmp_path)
    box.systemctl("stop")
    small_var(box)
    box.systemctl("start")
    site.join()
    filler = fill(box)
    site.release("2.0.0", 20, ballast_bytes=MIB)
    box.eventually(lambda: "is full" in site.sync()["error"], what="the update is refused for want of room")
    assert site.answer() == 11

    box.systemctl("restart")
    assert box.active == "active"
    box.eventually(lambda: box.serves(*MODELS, "press"))
    assert site.answer() == 11

    filler.unlink()
    box.eventually(lambda: site.runs("2.0.0"), what="the update")
    assert site.answer() == 21
