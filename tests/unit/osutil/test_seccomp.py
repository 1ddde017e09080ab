"""An engine must not reach any network, whatever the code in it tries. Run in processes of their own: it is for good."""

import subprocess
import sys

import pytest

PRELUDE = """
import socket, tempfile, threading
path = tempfile.mkdtemp() + "/s"
listener, early = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
other = socket.socket(socket.AF_UNIX)
other.connect(path)
from appliance.osutil.seccomp import forbid_network
assert forbid_network()
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
        "early.connect(path)",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import socket; socket.socket()'], check=True)",
    ],
)
def test_every_way_out_is_refused(attempt: str) -> None:
    done = run(attempt)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize(
    "allowed",
    [
        "socket.socketpair()",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "listener.accept()[0].sendall(b'x'); assert other.recv(1) == b'x'",
        "threading.Thread(target=print).start()",
        "import numpy; print(numpy.ones(3) @ numpy.ones(3))",
    ],
)
def test_what_an_engine_needs_still_works(allowed: str) -> None:
    assert run(allowed).returncode == 0


def test_threads_started_later_are_cut_off_too() -> None:
    done = run("t = threading.Thread(target=lambda: socket.socket()); t.start(); t.join()")
    assert "Permission denied" in done.stderr


def test_without_the_filter_the_attempt_succeeds() -> None:
    """The control: what is refused above is refused by the filter."""
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
