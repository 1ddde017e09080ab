"""The stick for machines without a network (packaging/offline): what is on it, and that nothing damaged is installed."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.registry.bundle.stick import open_stick

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "packaging/stick/install.sh"
# packaging/offline's exit status when Debian's archive cannot be reached.
NO_ARCHIVE = 3


def install(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["sh", folder / "install.sh", *options], capture_output=True, text=True, check=False)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A stick with two files and their sums; in a path with a blank, as sticks have."""
    folder = tmp_path / "USB STICK"
    (folder / "debs").mkdir(parents=True)
    shutil.copy(INSTALL, folder)
    (folder / "debs/a.deb").write_bytes(b"a package")
    names = ["debs/a.deb", "install.sh"]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def test_whole_files_pass(small: Path) -> None:
    done = install(small, "--check")
    assert (done.returncode, done.stdout) == (0, "")
    assert "all files are as they were made" in done.stderr


# Without --check too: the sums come before everything else, even before asking who calls.
@pytest.mark.parametrize("options", [["--check"], []])
def test_a_damaged_file_is_refused(small: Path, options: Sequence[str]) -> None:
    (small / "debs/a.deb").write_bytes(b"a packagf")
    done = install(small, *options)
    assert done.returncode == 1
    assert "debs/a.deb" in done.stdout + done.stderr
    assert "damaged or missing" in done.stderr


@pytest.mark.parametrize("name", ["debs/a.deb", "SHA256SUMS"])
def test_a_missing_file_is_refused(small: Path, name: str) -> None:
    (small / name).unlink()
    done = install(small)
    assert done.returncode == 1
    assert name in done.stderr


def test_sums_that_cannot_be_read_are_refused(small: Path) -> None:
    with (small / "SHA256SUMS").open("a") as sums:
        sums.write("no sum at all\n")
    assert install(small).returncode == 1


def test_an_unknown_option_shows_the_usage(small: Path) -> None:
    done = install(small, "--force")
    assert done.returncode == 2
    assert "--check" in done.stdout


@pytest.fixture(scope="module")
def stick(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert deb.exists()
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get here: it finds what the package needs of Debian")
    folder = tmp_path_factory.mktemp("offline") / "stick"
    done = subprocess.run([ROOT / "packaging/offline", folder], capture_output=True, text=True, check=False)
    if done.returncode == NO_ARCHIVE and not os.environ.get("CI"):
        pytest.skip("Debian's archive cannot be reached")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.packages
@pytest.mark.slow
@pytest.mark.timeout(400)
class TestWholeStick:
    """Made once, from the package in dist/."""

    def test_its_sums_are_right_and_name_every_file(self, stick: Path) -> None:
        assert install(stick, "--check").returncode == 0
        named = {line.split("  ", 1)[1] for line in (stick / "SHA256SUMS").read_text().splitlines()}
        there = {str(path.relative_to(stick)) for path in stick.rglob("*") if path.is_file()}
        assert named == there - {"SHA256SUMS"}

    def test_the_interpreter_is_on_it_and_what_every_debian_has_is_not(self, stick: Path) -> None:
        packages = {path.name.split("_")[0] for path in (stick / "debs").glob("*.deb")}
        assert {"inference-appliance", "python3.11", "libpython3.11-stdlib"} <= packages
        assert not {"libc6", "dpkg", "apt", "bash"} & packages

    def test_a_machine_can_import_its_models(self, stick: Path) -> None:
        assert open_stick(stick / "models")
        assert (stick / "models.root.json").exists()

    def test_the_page_to_read_fits_a_screen(self, stick: Path) -> None:
        lines = (stick / "README.txt").read_text().splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 80
        assert not [line for line in lines if "@" in line]
