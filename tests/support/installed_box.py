"""The appliance as a service of a machine (machine.py), asked as its clients and its operator would.

What tests/support/running.py and traffic.py do with a daemon they do with this: it has the same words.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import grpc
from daemon_process import DEADLINE
from machine import Machine

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc

UNIT = "inference-appliance.service"
SOCKET = "/run/inference-appliance/appliance.sock"
STATE = "/var/lib/inference-appliance"
_SOON_S = 2.0  # a front-end that hangs accepts connections, and never answers


class Box:
    """``pid``, ``process_of`` and what `status` tells are numbers inside the machine: for `machine.run("kill", ...)`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    # --- its clients -------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Of its unix socket, from outside."""
        return f"unix:{self.machine.path(SOCKET)}"

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def status(self, seconds: float = DEADLINE) -> admin_pb2.StatusResponse:
        with self.channel() as channel:
            return admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), timeout=seconds)

    def model(self, name: str) -> admin_pb2.ModelStatus:
        return next(m for m in self.status().models if m.name == name)

    def process_of(self, role: str) -> int:
        """The pid of "supervisor", "front-end 0" or "sync"."""
        return next(p.pid for p in self.status().processes if p.role == role)

    def serves(self, *models: str) -> bool:
        """Whether it answers soon, and these are ready: for `eventually`."""
        try:
            states = {m.name: m.state for m in self.status(_SOON_S).models}
        except grpc.RpcError:
            return False
        return all(states.get(name) == "ready" for name in models)

    def eventually(self, condition: Callable[[], bool], seconds: float = DEADLINE, what: str = "") -> float:
        """As the machine's, for conditions that ask the daemon, which may not answer yet."""

        def holds() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return condition()
            return False

        return self.machine.eventually(holds, seconds, what)

    # --- its operator ------------------------------------------------------------------------------------------------

    def systemctl(self, verb: str) -> None:
        self.machine.run("systemctl", verb, UNIT)

    def show(self, name: str) -> str:
        """One of what `systemctl show` knows of the unit."""
        return self.machine.run("systemctl", "show", "--property", name, "--value", UNIT).stdout.strip()

    @property
    def active(self) -> str:
        return self.show("ActiveState")

    @property
    def pid(self) -> int:
        return int(self.show("MainPID"))

    def kill(self, pid: int, name: str = "KILL") -> None:
        self.machine.run("kill", f"-{name}", str(pid))

    def json(self, *command: str) -> Any:
        """The document that `appliance ... --json` prints inside."""
        return json.loads(self.machine.run("appliance", *command, "--json").stdout)

    def drop_in(self, name: str, text: str) -> None:
        """Changes the unit as `systemctl edit` would; in force from the next start."""
        file = self.machine.path(f"/etc/systemd/system/{UNIT}.d/{name}.conf")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.machine.run("systemctl", "daemon-reload")

    def configure(self, name: str, text: str) -> None:
        """A file of configuration beside the packaged one; in force from the next start."""
        self.machine.path(f"/etc/inference-appliance/conf.d/{name}.toml").write_text(text)
