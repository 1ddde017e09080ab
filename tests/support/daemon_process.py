"""The real daemon as a process, for functional tests: started in folders of its own, asked as a client would ask.

tritonclient and this project both register the protobuf package `inference`, and one process can hold only one of
them: so tests use tritonclient for the Open Inference Protocol, appliance.pb.appliance.v1 for the rest, and the
`appliance` command as a process.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc

DEADLINE = 60.0
APPLIANCE = [sys.executable, "-m", "appliance.cli.main"]


class Daemon:
    """One run of ``appliance serve``; its log is kept for the report of a test that fails.

    ``command`` starts another installation's `appliance` than this environment's.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        config: str = "",
        env: dict[str, str] | None = None,
        journal: Path | None = None,
        command: Sequence[str] = APPLIANCE,
    ) -> None:
        """``journal``: where one is simulated; the daemon takes its standard error for it (systemd.exec(5))."""
        self.folder = folder
        self.command = command
        self.state = folder / "state"
        self.runtime = folder / "run"
        self.socket = self.runtime / "appliance.sock"
        self.log: list[str] = []
        arguments = ["--state-dir", str(self.state), "--runtime-dir", str(self.runtime)]
        if "address" not in config:
            arguments += ["--address", "127.0.0.1:0"]
        if config:
            file = folder / "appliance.toml"
            file.write_text(config)
            arguments += ["--config", str(file)]
        ours, theirs = os.pipe()
        env = {**os.environ, **(env or {})}
        if journal:
            pipe = os.fstat(theirs)
            env |= {"JOURNAL_STREAM": f"{pipe.st_dev}:{pipe.st_ino}", "APPLIANCE_JOURNAL_SOCKET": str(journal)}
        self.process = subprocess.Popen([*command, "serve", *arguments, *options], stderr=theirs, env=env)
        os.close(theirs)
        self._stderr = os.fdopen(ours)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = ""

    def _read(self) -> None:
        with self._stderr:
            for line in self._stderr:
                self.log.append(line.rstrip())

    @property
    def pid(self) -> int:
        return self.process.pid

    def ready(self) -> "Daemon":
        """Waits until it listens; its TCP address is then in ``address``."""
        self.eventually(lambda: bool(self.process.poll() is not None or self.socket.exists()))
        with self.channel() as channel:
            stub = admin_pb2_grpc.AdminStub(channel)
            status = stub.Status(admin_pb2.StatusRequest(), wait_for_ready=True, timeout=DEADLINE)
            self.eventually(lambda: bool(stub.Status(admin_pb2.StatusRequest()).addresses[:-1]))
            status = stub.Status(admin_pb2.StatusRequest())
        self.address = status.addresses[0]
        return self

    def channel(self) -> grpc.Channel:
        """To the unix socket."""
        return grpc.insecure_channel(f"unix:{self.socket}")

    def status(self) -> admin_pb2.StatusResponse:
        with self.channel() as channel:
            return admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), timeout=DEADLINE)

    def model(self, name: str, version: str = "") -> admin_pb2.ModelStatus:
        """The status of one version; the active one when none is named."""
        rows = [m for m in self.status().models if m.name == name and (m.version == version or not version)]
        return next((m for m in rows if version or m.active), rows[0])

    def process_of(self, role: str) -> int:
        """The pid of "supervisor", "front-end 0" or "sync"."""
        return next(p.pid for p in self.status().processes if p.role == role)

    def cli(self, *arguments: str, check: bool = True, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """The `appliance` command against this daemon."""
        done = subprocess.run(
            [*self.command, *arguments, "--socket", str(self.socket)],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=DEADLINE,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        """The document that `appliance ... --json` prints."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def add(self, folder: Path, *options: str) -> None:
        self.cli("models", "add", str(folder), *options)

    def eventually(self, condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
        """Polls until ``condition`` holds; fails with the log's end when it doesn't in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail("not in time; the daemon's log ends:\n" + "\n".join(self.log[-40:]))
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, seconds: float = DEADLINE) -> int:
        """Ends it; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        return status

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)
