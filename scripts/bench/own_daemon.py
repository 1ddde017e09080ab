"""A daemon of the benchmark's own: this checkout's, as it is shipped, in a folder of its own, on loopback, stopped at the end."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import grpc

from appliance.cli import upload
from appliance.cli.exit_codes import CommandFailed
from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc
from bench.target import BenchError, status_of

READY_S_MAX = 120.0
STOP_S_MAX = 30.0
WATCH_S = 0.02
LOG_CHARACTERS = 2000
ROOT = Path(__file__).resolve().parents[2]
# What scripts/demo has made already; else scripts/make_models makes it.
MODELS = ROOT / ".demo" / "models"


class OwnDaemon:
    """Started by ``with``. ``address`` is its host:port, ``socket`` its unix socket, ``pid`` the supervisor's."""

    def __init__(self, config: str = "", state: Path | None = None) -> None:
        """``config``: TOML besides the address (server.NAME = ...); "" is the daemon as shipped.

        ``state``: where its models are from an earlier run; by default a folder that goes with it.
        """
        self._config = f'server.address = "127.0.0.1:0"\n{config}'
        self._state = state
        self.address = ""
        self.socket = ""
        self.pid = 0

    def __enter__(self) -> "OwnDaemon":
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-")
        folder = Path(self._temporary.name)
        (folder / "appliance.toml").write_text(self._config)
        self._log = folder / "log"
        command = [sys.executable, "-m", "appliance.cli.main", "serve", "--config", str(folder / "appliance.toml"),
                   "--state-dir", str(self._state or folder / "state"), "--runtime-dir", str(folder / "run")]  # fmt: skip
        with self._log.open("wb") as log:
            # Not where this was started: "-m" would take an `appliance` that lies there before this process's own.
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        self.pid = self._process.pid
        self.socket = f"{folder}/run/appliance.sock"
        self._channel = grpc.insecure_channel(f"unix:{self.socket}")
        self._admin = admin_pb2_grpc.AdminStub(self._channel)
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_S_MAX)
        self._temporary.cleanup()

    def _failed(self, what: str) -> BenchError:
        return BenchError(f"{what}; the daemon's log ends:\n{self._log.read_text(errors='replace')[-LOG_CHARACTERS:]}")

    def _wait_until_it_listens(self) -> None:
        end = time.monotonic() + READY_S_MAX
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise self._failed(f"the daemon ended with {self._process.returncode}")
            try:
                found = self._admin.Status(admin_pb2.StatusRequest(), timeout=5, wait_for_ready=True).addresses
            except grpc.RpcError:
                continue
            # The unix socket is the last one; the port is told as soon as a front-end has it.
            if len(found) > 1:
                self.address = found[0]
                return
            time.sleep(WATCH_S)
        raise self._failed(f"the daemon did not listen within {READY_S_MAX:g} s")

    def status(self) -> admin_pb2.StatusResponse:
        """Admin.Status."""
        return self._admin.Status(admin_pb2.StatusRequest(), timeout=30)

    def add(self, folder: Path, *, activate: bool = True) -> None:
        """Add a model folder, which is proved and (unless told otherwise) loaded; BenchError when the daemon refuses."""
        if not folder.is_dir():
            raise BenchError(
                f"no such model folder: {folder}; make it: scripts/make_models {folder.parent} {folder.name}"
            )
        try:
            files = upload.plan(folder)
        except CommandFailed as error:
            raise BenchError(str(error)) from error
        begin = admin_pb2.AddModelRequest.Begin(total_bytes=files.total, no_activate=not activate)
        parts = upload.Parts(files, begin, lambda _size: None)
        try:
            for _ in self._admin.AddModel(iter(parts), timeout=READY_S_MAX):
                pass
        except grpc.RpcError as error:
            raise self._failed(f"{folder.name} was not added: {': '.join(status_of(error))}") from error

    def wait_ready(self, models: Sequence[str]) -> None:
        """Return once all of these take calls; BenchError when they don't in time."""
        end = time.monotonic() + READY_S_MAX
        while time.monotonic() < end:
            ready = {one.name for one in self.status().models if one.state == "ready"}
            if ready.issuperset(models):
                return
            time.sleep(WATCH_S)
        raise self._failed(f"not ready within {READY_S_MAX:g} s: {', '.join(sorted(set(models) - ready))}")
