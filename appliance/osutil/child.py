"""Both ends of being a child of the supervisor: starting a process that cannot outlive us, and being one.

The control channel is a socket pair. Its end of file tells a child that the supervisor is gone, and the parent-death
signal says so too where the work loop is deep in native code; together they leave no orphan.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from appliance.osutil import notify

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class Child(NamedTuple):
    """A started process and the supervisor's end of its control channel (blocking; the caller may change that)."""

    process: "subprocess.Popen[bytes]"
    control: socket.socket


def spawn(module: str, arguments: Sequence[str] = (), pass_fds: Sequence[int] = ()) -> Child:
    """Starts ``python -m module CONTROL_FD arguments...``; raises OSError when the machine can't."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *pass_fds),
                # gRPC's C++ core would write a line of its own, neither ours nor JSON, for every handshake that fails:
                # whoever reaches the port could fill the log. GRPC_VERBOSITY=INFO in the daemon's environment shows them.
                env={"GRPC_VERBOSITY": "ERROR", **_inherited(), "APPLIANCE_PARENT": str(os.getpid())},
            )
        except OSError:
            ours.close()
            raise
    return Child(process, ours)


def _inherited() -> dict[str, str]:
    """Our environment without what the service manager has set for this process alone."""
    return {name: value for name, value in os.environ.items() if name not in notify.VARIABLES}


def adopt_control(fd: int, title: str) -> socket.socket:
    """Called first in a child: ties its life to the supervisor's and returns its end of the control channel.

    A Ctrl-C in a terminal and a service manager's SIGTERM reach all processes: only the supervisor acts on them, and
    stops its children in order.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, title.encode()[:15], 0, 0, 0)
    # The parent may have died before the line above: then nobody will send the signal.
    parent = int(os.environ.get("APPLIANCE_PARENT", "0"))
    if parent and os.getppid() != parent:
        sys.exit(0)
    # systemd gives services 1,024 for select(2)'s sake, which idle clients alone would use up.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return socket.socket(fileno=fd)
