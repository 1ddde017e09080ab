"""Datagrams to a service manager, and what its variables may hold."""

import logging
import os
import sys
import types
from pathlib import Path

import pytest
from notify_socket import NotifySocket

from appliance.osutil import child
from appliance.osutil.notify import VARIABLES, Notifier


@pytest.fixture(autouse=True)
def _without_libsystemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd", None)  # an import then fails


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"@appliance-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "n")


def test_what_is_told_arrives_in_one_datagram(address: str) -> None:
    with NotifySocket(address) as manager:
        environ = {"NOTIFY_SOCKET": address, "HOME": "/"}
        notifier = Notifier.from_environment(environ)
        assert environ == {"HOME": "/"}
        assert notifier.listened_to
        notifier.tell(["READY=1", "STATUS=serving 1 model"])
        assert manager.wait_for("READY=1").lines == ("READY=1", "STATUS=serving 1 model")


def test_libsystemd_sends_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []
    library = types.ModuleType("systemd.daemon")
    library.notify = lambda text: sent.append((os.environ["NOTIFY_SOCKET"], text))  # type: ignore[attr-defined]
    package = types.ModuleType("systemd")
    package.daemon = library  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier.from_environment({"NOTIFY_SOCKET": "/run/notify"}).tell(["READY=1"])
    assert sent == [("/run/notify", "READY=1")]
    assert "NOTIFY_SOCKET" not in os.environ


def test_without_a_service_manager_nothing_is_sent() -> None:
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "1000000"})
    notifier.tell(["READY=1"])
    assert not notifier.listened_to
    assert notifier.watchdog_usec == 0


@pytest.mark.parametrize("bad", ["relative", "@", "/", "vsock:2:1234"])
def test_an_address_that_is_none(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": bad})
    notifier.tell(["READY=1"])
    assert not notifier.listened_to
    assert bad in caplog.text


def test_a_manager_that_is_gone_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "none")})
    for _ in range(3):
        notifier.tell(["READY=1"])
    assert [r.levelno for r in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    ("usec", "pid", "expected", "warned"),
    [
        ("30000000", "", 30_000_000, False),
        ("30000000", "own", 30_000_000, False),
        ("30000000", "1", 0, False),  # another process is to feed it
        ("", "", 0, False),
        ("0", "", 0, True),
        ("-5", "", 0, True),
        ("1e6", "", 0, True),
        ("\u0663", "", 0, True),  # a digit, but not one of ASCII
        ("infinity", "", 0, True),
    ],
)
def test_watchdog(usec: str, pid: str, expected: int, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    whose = str(os.getpid()) if pid == "own" else pid
    environ = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": usec, "WATCHDOG_PID": whose}
    assert Notifier.from_environment(environ).watchdog_usec == expected
    assert environ == {}
    assert bool(caplog.records) is warned


_TELLS_ITS_NAMES = """
import os, socket, sys
socket.socket(fileno=int(sys.argv[1])).sendall(" ".join(os.environ).encode())
"""


def test_children_do_not_inherit_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tells_its_names.py").write_text(_TELLS_ITS_NAMES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    started = child.spawn("tells_its_names")
    with started.control, started.control.makefile("r") as told:
        names = set(told.read().split())
    started.process.wait()
    assert "APPLIANCE_PARENT" in names
    assert not names & set(VARIABLES)
