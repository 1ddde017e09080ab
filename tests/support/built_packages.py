"""The packages under test: those in $APPLIANCE_PACKAGES, or dist/'s, built anew when the sources have changed since.

    python tests/support/built_packages.py            # builds them if need be; where that can't be, says why

`scripts/test` calls it before all tests: compiling what has never been compiled takes longer than a test may.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

_ROOT = Path(__file__).parents[2]
_DIST = _ROOT / "dist"
_STAMP = _DIST / ".sources"
# Of what a package is made.
_SOURCES = ("appliance", "packaging", "pyproject.toml", "README.md")
# PYTHON is for the environment that tests run in; packages have Debian's.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHON"}


class Packages(NamedTuple):
    deb: Path
    rpm: Path


def packages() -> Packages:
    """Both."""
    named = os.environ.get("APPLIANCE_PACKAGES")
    if not named and not _fresh():
        why = why_not() or build()
        if why:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    folder = Path(named) if named else _DIST
    found = [sorted(folder.glob(pattern)) for pattern in ("inference-appliance_*.deb", "inference-appliance-*.rpm")]
    if not all(len(files) == 1 for files in found):
        pytest.fail(f"one .deb and one .rpm are needed in {folder}; there are {len(found[0])} and {len(found[1])}")
    return Packages(found[0][0], found[1][0])


def why_not() -> str:
    """Why no package can be built here; empty when one can."""
    command = [_ROOT / "packaging/wheelhouse", "--missing"]
    missing = subprocess.run(command, env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return f"the packages cannot be built without Debian's {missing}" if missing else ""


def build() -> str:
    """Some half a minute; 8 minutes where nothing has been compiled before. Why it failed; empty when it didn't."""
    _DIST.mkdir(exist_ok=True)
    for old in (*_DIST.glob("inference-appliance[-_]*"), _STAMP):
        old.unlink(missing_ok=True)
    wanted = _sources()
    # What it says goes to our standard error, as it goes on: it may take long.
    if subprocess.run([_ROOT / "packaging/build"], env=_ENVIRONMENT, stdout=sys.stderr, check=False).returncode != 0:
        return "packaging/build failed; its last lines say why"
    _STAMP.write_text(wanted)
    return ""


def _fresh() -> bool:
    return _STAMP.exists() and _STAMP.read_text() == _sources()


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


def main() -> int:
    """For scripts/test: 0 when they are there, or can't be on a developer's machine."""
    if _fresh():
        return 0
    why = why_not()
    if not why:
        why = build()
        if not why:
            return 0
    elif not os.environ.get("CI"):
        print(f"left out, with the tests of the packages: {why}")
        return 0
    print(why)
    return 1


if __name__ == "__main__":
    sys.exit(main())
