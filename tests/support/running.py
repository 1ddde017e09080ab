"""Daemons of a test's own: one with a certain configuration, one that is to fail, and what the kernel says of processes."""

import contextlib
import ctypes
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daemon_process import APPLIANCE, DEADLINE, Daemon

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


@contextlib.contextmanager
def running(folder: Path | None = None, *, config: str = "", env: dict[str, str] | None = None) -> Iterator[Daemon]:
    """A daemon that listens, and ends with the block; its log is shown when the test fails."""
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ia-")))
        daemon = Daemon(folder, config=config, env=env)
        try:
            # A socket file that a killed daemon left would be taken for this one's.
            daemon.eventually(lambda: daemon.process.poll() is not None or "listening on" in "".join(daemon.log))
            yield daemon.ready()
        finally:
            daemon.stop()
            print("\n".join(daemon.log))


def serve_in_vain(folder: Path, *options: str, humble: bool = False) -> "subprocess.CompletedProcess[str]":
    """Runs ``appliance serve`` where it cannot start, and waits for its end.

    ``humble``: without root's right to pass by the permissions of files. (As another user it might not even come to
    its Python interpreter, which may lie in root's home.)
    """
    arguments = ["--state-dir", str(folder / "state"), "--runtime-dir", str(folder / "run"), *options]
    if "--address" not in options:
        arguments += ["--address", "127.0.0.1:0"]
    return subprocess.run(
        [*APPLIANCE, "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        preexec_fn=_give_up_capabilities if humble else None,
    )


def _give_up_capabilities() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- what operators ask, without the half second that a command takes to start ---------------------------------------


def ask(daemon: Daemon, method: str, request: Any) -> list[Any]:
    """All that one of Admin's streaming methods answers; raises grpc.RpcError."""
    with daemon.channel() as channel:
        return list(getattr(admin_pb2_grpc.AdminStub(channel), method)(request, timeout=DEADLINE))


def activate(daemon: Daemon, name: str, version: str = "", beside: bool = False) -> None:
    ask(daemon, "ActivateModel", admin_pb2.ActivateModelRequest(name=name, version=version, beside=beside))


def deactivate(daemon: Daemon, name: str, version: str = "") -> None:
    ask(daemon, "DeactivateModel", admin_pb2.DeactivateModelRequest(name=name, version=version))


def add(daemon: Daemon, folder: Path, *, no_activate: bool = False, keep_previous: bool = False) -> None:
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    total = sum(map(len, files.values()))
    begin = admin_pb2.AddModelRequest.Begin(total_bytes=total, no_activate=no_activate, keep_previous=keep_previous)
    parts = [admin_pb2.AddModelRequest(begin=begin)]
    for name, data in files.items():
        head = admin_pb2.AddModelRequest.FileBegin(path=name, size_bytes=len(data))
        parts.append(admin_pb2.AddModelRequest(file=head))
        parts += [admin_pb2.AddModelRequest(chunk=data[i : i + 2**20]) for i in range(0, len(data), 2**20)]
    ask(daemon, "AddModel", iter(parts))


def versions(daemon: Daemon, name: str) -> dict[str, tuple[str, bool]]:
    """State and whether it is active, by version."""
    return {m.version: (m.state, m.active) for m in daemon.status().models if m.name == name}


def settled(daemon: Daemon) -> bool:
    """Whether there are models, and none is still being loaded."""
    models = daemon.status().models
    return bool(models) and all(m.state not in ("loading", "restarting", "draining") for m in models)


# --- processes -------------------------------------------------------------------------------------------------------


def pids(daemon: Daemon) -> list[int]:
    """All processes of a daemon, the supervisor first."""
    status = daemon.status()
    return [*(p.pid for p in status.processes if p.pid), *(m.pid for m in status.models if m.pid)]


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet reaped doesn't."""
    return proc_status(pid).get("State", "Z")[0] not in "ZX"


def proc_status(pid: int) -> dict[str, str]:
    """/proc/PID/status (proc(5)); empty when there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_root() -> bool:
    return os.geteuid() == 0
