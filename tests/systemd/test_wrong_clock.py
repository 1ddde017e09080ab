"""The clock is set back ten years: the service starts, serves and takes updates; what is out of date is judged by the floor.

The clock itself is the kernel's, and the host's. So it is the service that is told another time of day, in all its processes.
"""

import subprocess
from pathlib import Path

import pytest
from installed_box import Box
from installed_disk import MODELS
from site_rig import Site

TEN_YEARS_S = 10 * 365 * 86_400
# The floor is written down once an hour.
STEP_MS = 3600 * 1000
SOURCE = Path(__file__).parent.parent / "support" / "late_clock.c"
INSIDE = "/usr/lib/late_clock.so"


@pytest.fixture
def late_clock(tmp_path: Path) -> Path:
    made = tmp_path / "late_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", f"-DLATE_S={TEN_YEARS_S}L", "-o", str(made), str(SOURCE)], check=True)
    return made


def test_ten_years_back(own_box: Box, late_clock: Path, tmp_path: Path) -> None:
    box, site = own_box, Site(own_box, tmp_path)
    site.join()
    before = box.json("registry", "clock")
    box.machine.put(late_clock, INSIDE)
    box.drop_in("99-clock", f"[Service]\nEnvironment=LD_PRELOAD={INSIDE}\n")
    box.systemctl("restart")
    box.eventually(lambda: box.serves(*MODELS, "press"))
    assert site.answer() == 11

    after = box.json("registry", "clock")
    assert before["machine_ms"] - after["machine_ms"] > 0.99 * TEN_YEARS_S * 1000
    assert after["judged_ms"] == after["floor_ms"] > before["floor_ms"] - STEP_MS

    site.release("2.0.0", 20)
    box.eventually(lambda: site.runs("2.0.0"), what="an update")
    assert site.answer() == 21
