"""The unix socket's file: what may lie at its path before, and who may open it after."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from appliance import limits
from appliance.serve.refused import ListenError

_PROBE_SECONDS = 2.0


def prepare(path: Path) -> None:
    """Makes way for a new socket at ``path``: a stale one is removed. Raises ListenError when something else is there."""
    size = len(os.fsencode(path))
    if size > limits.unix_socket_path_bytes_max:
        raise ListenError(
            f"the unix socket's path has {size} bytes, the kernel allows {limits.unix_socket_path_bytes_max}: "
            f"set server.unix_socket or paths.runtime to a shorter one than {path}"
        )
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"the unix socket {path} cannot be made: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise ListenError(
            f"{path} is in the way of the unix socket and is no socket: move it, or set server.unix_socket"
        )
    if _answers(path):
        raise ListenError(f"another daemon answers on {path}: stop it, or set server.unix_socket to another path")
    try:
        path.unlink()
    except OSError as error:
        raise ListenError(f"the stale unix socket {path} cannot be removed: {error.strerror}") from None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # somebody is there, only too busy or not ours to talk to
    return True


@contextlib.contextmanager
def group_only() -> Iterator[None]:
    """Files made in here are for owner and group (0660): no moment in which others could connect."""
    before = os.umask(0o117)
    try:
        yield
    finally:
        os.umask(before)
