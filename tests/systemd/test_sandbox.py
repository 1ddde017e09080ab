"""What the installed unit's sandbox keeps its processes from, tried out in there; and that it is not just the machine."""

import json
import socket
from collections.abc import Iterator

import client_models
import pytest
from installed_box import STATE, UNIT, Box
from installed_disk import Installed
from machine_link import Link, connect
from unit_probe import in_unit, outside_unit

EXPOSURE_MAX = 15  # tenths
CANNOT_WRITE = [
    "/usr/x",
    "/etc/x",
    "/etc/inference-appliance/x",
    "/boot/x",
    "/x",
    "/root/x",
    "/home/x",
    "/proc/sys/kernel/hostname",
]
CAN_WRITE = [f"/{place}/inference-appliance/probe" for place in ("var/lib", "var/cache", "var/log", "run")]

FILES = """
def write(path):
    with open(path, "w"):
        return "written"

found = {path: tried(write, path) for path in PATHS}
"""

POWERS = """
import ctypes, mmap, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def called(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
found["capabilities"] = {status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
found["may gain none"] = status["NoNewPrivs"].strip() == "1"
found["raw sockets"] = tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) and "made")
found["packets"] = tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW) and "made")
found["new namespace"] = tried(called, "unshare", 0x10000000)
found["code that is written"] = tried(lambda: mmap.mmap(-1, 4096, prot=7) and "mapped")
found["mount"] = tried(called, "mount", b"none", b"/var/lib/inference-appliance", b"tmpfs", 0, None)
found["others' processes"] = os.path.exists("/proc/1")
"""

CONNECTS = """
import socket

def connect(address):
    with socket.create_connection(address, timeout=2):
        return "connected"

found = {f"{host}:{port}": tried(connect, (host, port)) for host, port in PLACES}
"""


@pytest.fixture(scope="module")
def box(installed: Installed) -> Iterator[Box]:
    with installed.box() as box:
        yield box


def test_exposure(box: Box) -> None:
    words = ("systemd-analyze", "security", f"--threshold={EXPOSURE_MAX}", "--no-pager", UNIT)
    done = box.machine.run(*words, check=False)
    assert done.returncode == 0, done.stdout


def test_files(box: Box) -> None:
    found = in_unit(box.machine, f"PATHS = {CANNOT_WRITE + CAN_WRITE}\n{FILES}")
    assert {found[path] for path in CANNOT_WRITE} <= {"EROFS", "EACCES", "ENOENT"}, found
    assert {found[path] for path in CAN_WRITE} == {"'written'"}, found
    # Not only because they are another user's.
    assert {found[path] for path in ("/usr/x", "/etc/x", "/boot/x")} == {"EROFS"}, found


def test_powers(box: Box) -> None:
    found = in_unit(box.machine, POWERS)
    assert found == {
        "capabilities": True,
        "may gain none": True,
        "raw sockets": "EPERM",
        "packets": "EAFNOSUPPORT",
        "new namespace": "EPERM",
        "code that is written": "EPERM",
        "mount": "EPERM",
        "others' processes": False,
    }


@pytest.fixture(scope="module")
def link(box: Box) -> Link:
    return connect(box.machine)


@pytest.fixture(scope="module")
def listening(link: Link) -> Iterator[int]:
    """A port of ours, on all networks."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield int(server.getsockname()[1])


def places(link: Link, port: int) -> str:
    return f"PLACES = {[(link.friends.here, port), ('127.0.0.1', 8001)]}\n"


def test_networks_that_are_not_allowed(box: Box, link: Link, listening: int) -> None:
    code = places(link, listening) + CONNECTS
    out, home = f"{link.friends.here}:{listening}", "127.0.0.1:8001"
    assert outside_unit(box.machine, code) == {out: "'connected'", home: "'connected'"}
    found = in_unit(box.machine, code)
    assert found[home] == "'connected'"
    assert found[out] in ("EPERM", "TimeoutError")


def test_an_engine_that_tries_to_connect_out(box: Box, link: Link, listening: int, tmp_path) -> None:
    """The engine of a hostile model: here the code of the fake engine is, as a model that took over its engine could."""
    site = box.machine.run("sh", "-c", "ls -d /usr/lib/inference-appliance/lib/python3*/site-packages").stdout.strip()
    module = f"{site}/appliance/engine/fake/script"
    tries = f"\nfrom pathlib import Path\n{places(link, listening)}{HOSTILE.format(result=f'{STATE}/tried.json')}"
    source = box.machine.path(f"{module}.py")
    source.write_text(source.read_text() + tries)
    # What was compiled before is run without a look at the source.
    box.machine.run("sh", "-c", f"rm {site}/appliance/engine/fake/__pycache__/script.*")
    box.machine.put(client_models.fake(tmp_path, "hostile"), "/run/hostile")
    box.machine.run("appliance", "models", "add", "/run/hostile")
    assert box.serves("hostile")
    tried = json.loads(box.machine.path(f"{STATE}/tried.json").read_text())
    assert len(tried) == 4
    assert set(tried) <= {"EACCES", "EPERM"}, tried


HOSTILE = """
import errno, json, socket

def _tried(family, kind, place):
    try:
        with socket.socket(family, kind) as opened:
            opened.settimeout(2)
            opened.connect(place)
            opened.send(b"secret")
        return "sent"
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)

Path("{result}").write_text(json.dumps([
    _tried(socket.AF_INET, kind, place) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) for place in PLACES
]))
"""
