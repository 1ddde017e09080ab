"""The daemon's configuration: one TOML file and its drop-ins, frozen after parsing.

Every key is documented in packaging/appliance.toml, which tests/unit/test_config.py keeps in step with these structs.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec

from appliance import core_plan, limits


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table of the file: unknown keys are errors."""


class TlsConfig(Section, frozen=True):
    """Files in PEM. With ``client_ca`` every client must show a certificate that it signed (mutual TLS)."""

    certificate: str = ""
    key: str = ""
    client_ca: str = ""


class ServerConfig(Section, frozen=True):
    """Where the daemon listens and what it takes."""

    address: str = "127.0.0.1:8001"
    insecure: bool = False
    unix_socket: str = ""
    max_message_mib: int = 64
    front_ends: int = 0
    threads: int = 256
    drain_seconds: float = 20.0
    shared_memory: bool = False
    tls: TlsConfig = TlsConfig()


class PathsConfig(Section, frozen=True):
    """Folders of the daemon; empty: systemd's, /var/lib and /run under root, XDG folders otherwise (``state_dir``)."""

    state: str = ""
    runtime: str = ""


class EnginesConfig(Section, frozen=True):
    """What every engine process gets. ``threads`` 0: what the plan of the cores says (core_plan.py)."""

    threads: int = 0
    queue_max: int = 128
    load_seconds_max: float = 300.0
    step_seconds_max: float = 60.0
    realtime: bool = True
    providers: tuple[str, ...] = ("cuda", "openvino", "cpu")


class ModelsConfig(Section, frozen=True):
    """``required``: models that must be loaded before the daemon says that it is ready."""

    required: tuple[str, ...] = ()


class RegistryConfig(Section, frozen=True):
    """Where models come from by themselves, and which of them. ``url`` "": from nowhere."""

    url: str = ""
    mirrors: tuple[str, ...] = ()
    prefix: str = ""
    root: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    credentials: str = ""
    proxy: str = ""
    insecure: bool = False
    channel: str = "stable"
    region: str = ""
    hardware: tuple[str, ...] = ()
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    poll_seconds: float = 3600.0
    windows: tuple[str, ...] = ()
    bandwidth_kib_s: int = 0
    parallel: int = 2
    activate: bool = True
    probation_seconds: float = 600.0
    disk_mib_max: int = 0
    keep_previous: int = 1
    shadow_percent: float = 0.0
    canary_percent: float = 0.0
    compare_calls: int = limits.comparison_calls_default
    compare_seconds: float = limits.comparison_seconds_default
    compare_failed_max: float = limits.comparison_failed_max
    compare_agreement_min: float = limits.comparison_agreement_min
    compare_latency_max: float = limits.comparison_latency_ratio_max


class LogConfig(Section, frozen=True):
    """``format`` "auto": the journal's fields where standard error is one, text on a terminal, JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Config(Section, frozen=True):
    """The whole file."""

    server: ServerConfig = ServerConfig()
    paths: PathsConfig = PathsConfig()
    engines: EnginesConfig = EnginesConfig()
    models: ModelsConfig = ModelsConfig()
    registry: RegistryConfig = RegistryConfig()
    log: LogConfig = LogConfig()

    @property
    def state_dir(self) -> Path:
        """Where models and journals live."""
        if self.paths.state:
            return Path(self.paths.state)
        if given := _of_service("STATE_DIRECTORY"):
            return given
        if os.geteuid() == 0:
            return Path("/var/lib/inference-appliance")
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
        return Path(base) / "inference-appliance"

    @property
    def runtime_dir(self) -> Path:
        """Where sockets and the lock of the running daemon live."""
        if self.paths.runtime:
            return Path(self.paths.runtime)
        if given := _of_service("RUNTIME_DIRECTORY"):
            return given
        if os.geteuid() == 0:
            return Path("/run/inference-appliance")
        # Without a user's session there is no other short path, and a socket's path must be short (sun_path).
        base = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/inference-appliance-{os.geteuid()}"  # noqa: S108  # as above
        return Path(base) / "inference-appliance"

    @property
    def unix_socket(self) -> Path:
        """The socket that the CLI uses by default."""
        return Path(self.server.unix_socket) if self.server.unix_socket else self.runtime_dir / "appliance.sock"

    @property
    def front_end_count(self) -> int:
        """How many front-end processes: as configured, or as the plan of the cores has it."""
        return self.server.front_ends or core_plan.front_ends(len(os.sched_getaffinity(0)))


def _of_service(variable: str) -> Path | None:
    """The folder that systemd has made for the service: the first, where a drop-in asks for more (systemd.exec(5))."""
    first = os.environ.get(variable, "").partition(":")[0]
    return Path(first) if first else None
