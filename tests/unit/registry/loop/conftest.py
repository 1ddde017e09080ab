"""A registry over HTTP, who releases there, and a machine that has the old version; whole updates to be hurt."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from delta_rig import OLD, Headquarters, Machine
from registry_simulator import RegistrySimulator

from tests.support.update_matrix import Matrix


@pytest.fixture
def registry() -> Iterator[RegistrySimulator]:
    with RegistrySimulator().running() as running:
        yield running


@pytest.fixture
def headquarters(tmp_path: Path, registry: RegistrySimulator) -> Headquarters:
    return Headquarters(tmp_path, registry)


@pytest.fixture
def machine(tmp_path: Path, headquarters: Headquarters) -> Machine:
    """It has the old version."""
    made = Machine(tmp_path, headquarters.registry.url)
    made.bring(headquarters.release("1.0.0", OLD))
    headquarters.registry.sent = 0
    headquarters.registry.seen.clear()
    return made


@pytest.fixture(scope="session")
def matrix() -> Iterator[Matrix]:
    """In memory where there is room for that: nothing here depends on a disk that is slow to sync."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield Matrix(folder)
    shutil.rmtree(folder)
