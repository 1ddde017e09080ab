"""What is in the packages: their size, their files, their fields; and that the tree in them works."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.packages

HOME = "usr/lib/inference-appliance"
SITE = f"{HOME}/lib/python3.11/site-packages"
# Every module of ours, and through them what each needs of its libraries; prints what is missing.
IMPORT_ALL = """
import importlib, pkgutil, appliance
for module in pkgutil.walk_packages(appliance.__path__, "appliance."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(module.name, error)
"""
# The bound. What is in it: packaging/README.md.
INSTALLED_MAX = 120 * 1000**2
FILES = (
    "etc/inference-appliance/appliance.toml",
    "etc/inference-appliance/conf.d",
    "lib/systemd/system/inference-appliance.service",
    f"{HOME}/bin/appliance",
    f"{SITE}/appliance/cli/main.py",
    f"{SITE}/appliance/__pycache__/config.cpython-311.pyc",
    "usr/bin/appliance",
    "usr/lib/sysusers.d/inference-appliance.conf",
    "usr/lib/tmpfiles.d/inference-appliance.conf",
    "usr/share/bash-completion/completions/appliance",
    "usr/share/doc/inference-appliance/changelog.Debian.gz",
    "usr/share/doc/inference-appliance/copyright",
    "usr/share/fish/vendor_completions.d/appliance.fish",
    "usr/share/man/man1/appliance-serve.1.gz",
    "usr/share/man/man1/appliance.1.gz",
    "usr/share/zsh/vendor-completions/_appliance",
)


def output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", FILES)
def test_is_there(tree: Path, name: str) -> None:
    assert (tree / name).exists()


def test_is_small(tree: Path) -> None:
    size = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_symlink() or path.is_file())
    assert size < INSTALLED_MAX, f"{size / 1e6:.1f} MB"


def test_an_admins_configuration_is_kept(deb: Path) -> None:
    control = output("dpkg-deb", "--info", deb, "conffiles")
    assert control.split() == ["/etc/inference-appliance/appliance.toml"]


def test_belongs_to_root_and_nobody_else_may_write(deb: Path) -> None:
    for line in output("dpkg-deb", "--contents", deb).splitlines():
        mode, owner = line.split()[:2]
        assert owner == "root/root", line
        assert mode[0] == "l" or (mode[5] == "-" and mode[8] == "-"), line


def test_no_file_names_the_folder_of_the_build(tree: Path) -> None:
    found = subprocess.run(
        ["grep", "-rlaE", r"/tmp/(tmp|pip)[.-]", tree / HOME / "pyvenv.cfg", tree / HOME / "bin", tree / SITE / "appliance", tree / SITE / "llama_cpp"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == ""


def test_the_command_runs_out_of_the_unpacked_tree(tree: Path) -> None:
    if not Path("/usr/bin/python3.11").exists():
        pytest.skip("no /usr/bin/python3.11: the package is for Debian 12's interpreter")
    python = tree / HOME / "bin/python3"
    run = "import sys; sys.argv = ['appliance', *sys.argv[1:]]; from appliance.cli.main import main; main()"
    assert "serve" in output(python, "-I", "-c", run, "--help")
    missing = output(python, "-I", "-c", IMPORT_ALL).splitlines()
    # Headquarters' side, which converts trained models; it is installed with pip there (the extra "publish").
    assert [
        line for line in missing if not re.fullmatch(r"appliance\.publish\.\w+ No module named 'sklearn'", line)
    ] == []


def test_the_rpm_says_the_same(deb: Path, rpm: Path) -> None:
    assert output("rpm", "-qp", "--qf", "%{NAME} %{VERSION}-%{RELEASE} %{ARCH}", rpm) == (
        f"inference-appliance {output('dpkg-deb', '--field', deb, 'Version').strip()} {os.uname().machine}"
    )
    assert output("rpm", "-qp", "--configfiles", rpm).split() == ["/etc/inference-appliance/appliance.toml"]
    files = set(output("rpm", "-qpl", rpm).split())
    debian_only = ("lib/systemd", "usr/share/doc/inference-appliance/changelog", "usr/share/zsh")
    assert {f"/{name}" for name in FILES if not name.startswith(debian_only)} <= files
    assert "/usr/lib/systemd/system/inference-appliance.service" in files


def test_lintian_finds_nothing(deb: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    done = subprocess.run(["lintian", "--allow-root", deb], capture_output=True, text=True, check=False)
    assert re.findall(r"^[EW]: .*", done.stdout, re.M) == []
