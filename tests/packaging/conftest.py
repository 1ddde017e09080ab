"""The packages in dist/, unpacked once. Build them first: packaging/build. Where CI is set, nothing may be missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DIST = Path(__file__).parents[2] / "dist"


def _missing(what: str) -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


def _newest(pattern: str, tool: str) -> Path:
    found = sorted(DIST.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        _missing(f"no {pattern} in dist/: make it with packaging/build")
    if shutil.which(tool) is None:
        _missing(f"{tool} is not installed: it reads the package")
    return found[-1]


@pytest.fixture(scope="session")
def deb() -> Path:
    return _newest("inference-appliance_*.deb", "dpkg-deb")


@pytest.fixture(scope="session")
def rpm() -> Path:
    return _newest("inference-appliance-*.rpm", "rpm")


@pytest.fixture(scope="session")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb's files as they would lie below /."""
    folder = tmp_path_factory.mktemp("deb")
    subprocess.run(["dpkg-deb", "--extract", deb, folder], check=True)
    return folder
