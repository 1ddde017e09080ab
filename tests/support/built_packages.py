"""The packages under test: those in $APPLIANCE_PACKAGES, or dist/'s, built anew when the sources have changed since."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from machine_ground import skip_for

_ROOT = Path(__file__).parents[2]
# Of what a package is made.
_SOURCES = ("appliance", "packaging", "pyproject.toml", "README.md")
_PYTHON = "/usr/bin/python3.11"
_BUILD_S = 1800


class Packages(NamedTuple):
    deb: Path
    rpm: Path


def packages() -> Packages:
    """Both (some 1 minute when they have to be built, 10 where nothing has been compiled before)."""
    named = os.environ.get("APPLIANCE_PACKAGES")
    folder = Path(named) if named else _ROOT / "dist"
    if not named:
        _build(folder)
    found = [sorted(folder.glob(pattern)) for pattern in ("inference-appliance_*.deb", "inference-appliance-*.rpm")]
    if not all(len(files) == 1 for files in found):
        pytest.fail(f"one .deb and one .rpm are needed in {folder}; there are {len(found[0])} and {len(found[1])}")
    return Packages(found[0][0], found[1][0])


def _build(folder: Path) -> None:
    stamp, wanted = folder / ".sources", _sources()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    skip_for(_no_builder())
    folder.mkdir(exist_ok=True)
    for old in folder.glob("inference-appliance[-_]*"):
        old.unlink()
    done = subprocess.run([_ROOT / "packaging/build"], capture_output=True, text=True, timeout=_BUILD_S, check=False)
    if done.returncode != 0:
        pytest.fail(f"packaging/build failed:\n{done.stderr[-3000:]}")
    stamp.write_text(wanted)


def _no_builder() -> str:
    """Why no package can be built here; empty when one can."""
    can = [_PYTHON, "-c", "import ensurepip"]
    if not Path(_PYTHON).exists() or subprocess.run(can, capture_output=True, check=False).returncode != 0:
        return f"packages are built with {_PYTHON} and venv (Debian 12: apt-get install python3.11-venv)"
    return "" if shutil.which("c++") else "packages need a C/C++ compiler (Debian: apt-get install build-essential)"


def _sources() -> str:
    """What tells one state of the sources from another."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_SOURCES]
    names = subprocess.run(listed, cwd=_ROOT, capture_output=True, check=True).stdout.split(b"\0")
    total = hashlib.sha256()
    for name in sorted(filter(None, names)):
        file = _ROOT / os.fsdecode(name)
        if file.is_file():
            total.update(name + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
