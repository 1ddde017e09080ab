"""The same sources give the same bytes: built once more, elsewhere, by another umask, time zone and locale."""

import os
import subprocess
from pathlib import Path

import pytest
from built_packages import packages

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_second_build_is_the_same(tree: Path, tmp_path: Path) -> None:
    first = packages()
    # As the first build had it: by default it is the last commit's time, and a commit need not change a package.
    epoch = str(int((tree / "usr/lib/inference-appliance/pyvenv.cfg").stat().st_mtime))
    (tmp_path / "elsewhere").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"} | {
        "SOURCE_DATE_EPOCH": epoch,
        "TMPDIR": str(tmp_path / "elsewhere"),
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
    }
    command = [ROOT / "packaging/build", tmp_path / "second"]
    done = subprocess.run(command, env=environment, umask=0o077, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for one in first:
        assert (tmp_path / "second" / one.name).read_bytes() == one.read_bytes(), one.name
