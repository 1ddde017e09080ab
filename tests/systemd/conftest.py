"""Machines under a real systemd with our package in them: what costs is done once, a machine for a test takes a second."""

from collections.abc import Iterator
from pathlib import Path

import machine
import machine_ground
import pytest
from built_packages import Packages, packages
from installed_box import Box
from installed_disk import Installed, installed_disk
from root_image import unpack_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.systemd)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """The journals of machines that run, beside a test that fails."""
    report: pytest.TestReport = yield
    if report.failed:
        for one in machine.running:
            report.sections.append((f"journal of {one.name}", one.last_words()))
    return report


@pytest.fixture(scope="session", autouse=True)
def _machines_can_be() -> None:
    machine_ground.required()
    machine_ground.sweep()


@pytest.fixture(scope="session")
def built(_machines_can_be: None) -> Packages:
    return packages()


@pytest.fixture(scope="session")
def root(_machines_can_be: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian 12, nothing of ours."""
    return unpack_root(tmp_path_factory.mktemp("root") / "files")


@pytest.fixture(scope="session")
def installed(root: Path, built: Packages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A disk with our .deb and three models, for machines of a test's own: ``with installed.box() as box:``."""
    with installed_disk(root, built.deb, tmp_path_factory.mktemp("models")) as made:
        yield made


@pytest.fixture(scope="session")
def shared_box(installed: Installed) -> Iterator[Box]:
    """One machine for all tests that leave it as it was: with its three models served."""
    with installed.box() as box:
        yield box


@pytest.fixture
def own_box(installed: Installed) -> Iterator[Box]:
    """A machine for one test."""
    with installed.box() as box:
        yield box
