"""What must hold before the first child starts: folders, one daemon per state folder, a free port; and the way back."""

import contextlib
import errno
import os
import shutil
import socket
import stat
from pathlib import Path

import msgspec

from appliance.address import parse_address
from appliance.config import Config
from appliance.errors import FailedPrecondition
from appliance.osutil.lock import InstanceLock
from appliance.state import upgrade

# sockaddr_un.sun_path holds 108 bytes with the closing zero (unix(7)); engines' sockets are RUNTIME/engines/NNNNNN.sock.
_SOCKET_PATH_BYTES_MAX = 107
_ENGINE_SOCKET_BYTES = len("/engines/999999999.sock")


def prepare(config: Config) -> InstanceLock:
    """Makes the folders and takes the lock; raises FailedPrecondition with what an operator must do."""
    for folder in (config.state_dir, config.runtime_dir):
        _make_private(folder)
    if len(os.fsencode(config.runtime_dir)) + _ENGINE_SOCKET_BYTES > _SOCKET_PATH_BYTES_MAX:
        raise FailedPrecondition(
            f"the runtime folder's path is too long for unix sockets ({config.runtime_dir}): "
            "name a shorter one as paths.runtime",
            reason="PATH_TOO_LONG",
        )
    lock = _lock(config.state_dir)
    try:
        upgrade.prepare(config.state_dir)
        _probe_port(config.server.address)
        _probe_unix_socket(config.unix_socket)
        engine_sockets(config)
    except BaseException:
        lock.close()
        raise
    return lock


def with_port(config: Config) -> Config:
    """The configuration with a free port in place of port 0: every front-end, in every life, must have the same one."""
    address = parse_address(config.server.address)
    if address.port:
        return config
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address.host, 0))
        found = address._replace(port=probe.getsockname()[1])
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, address=str(found)))


def clear_away(config: Config) -> None:
    """Removes the socket files that children who were killed could not remove themselves. The lock is still held."""
    with contextlib.suppress(OSError):
        config.unix_socket.unlink()
    with contextlib.suppress(OSError):
        engine_sockets(config)


def engine_sockets(config: Config) -> Path:
    """An empty folder for the engines' sockets: what an earlier daemon left there is stale."""
    folder = config.runtime_dir / "engines"
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        # What is in it as well: a daemon that once ran as root leaves a store that this one could only read.
        for path in (folder, *(p for p in folder.iterdir() if p.is_dir())):
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not writable", path)
    except OSError as error:
        raise _unusable(error, f"the folder {error.filename or folder}") from error


def _lock(folder: Path) -> InstanceLock:
    try:
        return InstanceLock(folder)
    except OSError as error:
        raise _unusable(error, f"the lock file {error.filename}") from error


def _unusable(error: OSError, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"cannot use {what}: {error.strerror}; "
        "make it writable for this user, or name another folder as paths.state or paths.runtime",
        reason="FOLDER_UNUSABLE",
    )


def _probe_port(address: str) -> None:
    """Front-ends share the port with SO_REUSEPORT, which would let two daemons share it too: so look first."""
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of an earlier daemon in TIME_WAIT must not look like a port in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            hint = "stop the program that has it, or name another as server.address"
            raise FailedPrecondition(
                f"cannot listen on {address}: {os.strerror(error.errno or 0)}; {hint}", reason="PORT_UNUSABLE"
            ) from error


def _probe_unix_socket(path: Path) -> None:
    """A socket file that nobody listens on is stale and is removed; anything else in its place is refused."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FailedPrecondition(
            f"{path} is in the way of the daemon's socket and is not a socket: move it away", reason="SOCKET_BLOCKED"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise FailedPrecondition(
                f"cannot look at the socket {path}: {error.strerror}", reason="SOCKET_BLOCKED"
            ) from error
        else:
            raise FailedPrecondition(
                f"another program listens on {path}: stop it, or name another path as server.unix_socket",
                reason="SOCKET_IN_USE",
            )
