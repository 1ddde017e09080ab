"""Machines under a real systemd with our package in them: what costs is done once, a machine for a test takes seconds."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import client_models
import machine
import machine_ground
import pytest
from built_packages import Packages, packages
from installed_box import Box
from machine import Machine
from root_image import unpack_root
from running import add

_JOURNAL_LINES = 120


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
            text = one.run("journalctl", "--boot", "--lines", str(_JOURNAL_LINES), "--no-hostname", check=False).stdout
            report.sections.append((f"journal of {one.name}", text))
    return report


@pytest.fixture(scope="session", autouse=True)
def _machines_can_be() -> None:
    machine_ground.required()


@pytest.fixture(scope="session")
def built(_machines_can_be: None) -> Packages:
    return packages()


@pytest.fixture(scope="session")
def root(_machines_can_be: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian 12, nothing of ours."""
    return unpack_root(tmp_path_factory.mktemp("root") / "files")


class Installed(NamedTuple):
    """What installing the .deb came to. ``disk``: with the models of ``stock`` in it, for Machine(*disk)."""

    said: str
    active: str
    seconds: float
    disk: Sequence[Path]


@pytest.fixture(scope="session")
def installed(root: Path, built: Packages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with Machine(root) as first:
        first.put(built.deb, "/run/appliance.deb")
        began = time.monotonic()
        said = first.run("dpkg", "--install", "/run/appliance.deb", seconds=120)
        seconds = time.monotonic() - began
        box = Box(first)
        active = box.active
        stock(box, tmp_path_factory.mktemp("models"))
        first.power_off()
        yield Installed(said.stdout + said.stderr, active, seconds, first.disk())


def stock(box: Box, folder: Path) -> None:
    """ "breast-cancer" (ONNX), "says" (GGUF: after "h" comes "elo w") and "steady" (an echo)."""
    add(box, demo_model("breast-cancer"))
    add(box, client_models.tiny(folder, "says", script=b"helo w"))
    add(box, client_models.fake(folder, "steady"))


def demo_model(name: str) -> Path:
    """A folder that scripts/make_models made."""
    made = Path(os.environ.get("APPLIANCE_TEST_MODELS", "")) / name
    if not (made / "model.toml").exists():
        pytest.fail(f"no model {name}: run `scripts/test`, or set APPLIANCE_TEST_MODELS to a folder of demo models")
    return made


@contextmanager
def new_box(installed: Installed) -> Iterator[Box]:
    with Machine(*installed.disk) as fresh:
        box = Box(fresh)
        box.eventually(lambda: box.active == "active" and box.serves("breast-cancer", "says", "steady"))
        yield box


@pytest.fixture(scope="session")
def make_box(installed: Installed) -> Callable[[], AbstractContextManager[Box]]:
    """Boots a machine of the test's own; it serves when the block begins."""
    return lambda: new_box(installed)


@pytest.fixture(scope="session")
def shared_box(make_box: Callable[[], AbstractContextManager[Box]]) -> Iterator[Box]:
    """One machine for all tests that leave it as it was: with its three models served."""
    with make_box() as box:
        yield box


@pytest.fixture
def own_box(make_box: Callable[[], AbstractContextManager[Box]]) -> Iterator[Box]:
    """A machine for one test."""
    with make_box() as box:
        yield box
