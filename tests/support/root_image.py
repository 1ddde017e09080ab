"""Debian 12's files for the machines of tests: made once by mmdebstrap, kept in the user's cache folder.

The mirror is the host's, if that takes Debian 12 from one; where it is does not get into the image.
"""

import fcntl
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"
# systemd as an operator has it; what our package needs; rpm, for the other package; ip(8) and ps(1), for tests.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "init-system-helpers"),
    *("python3.11", "libc6", "libgcc-s1", "libstdc++6"),
    *("rpm", "iproute2", "procps"),
)
_TOLD_BY_HOST = ("etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/apt.conf.d/99mmdebstrap")
_NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale")
_MAKE_S = 600


def unpack_root(folder: Path) -> Path:
    """The image's files below ``folder`` (some 5 s; half a minute more when the image has to be made)."""
    folder.mkdir()
    command = ["tar", "--extract", "--zstd", "--numeric-owner", "--xattrs", "--directory", str(folder)]
    subprocess.run([*command, "--file", str(_image())], check=True, timeout=_MAKE_S)
    return folder


def _image() -> Path:
    """The archive, which the first one who needs it makes; others wait for that."""
    recipe = [SUITE, platform.machine(), *PACKAGES, "--", *_TOLD_BY_HOST, *_NOT_NEEDED]
    key = hashlib.sha256(" ".join(recipe).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inference-appliance" / "roots" / key
    cache.mkdir(parents=True, exist_ok=True)
    image = cache / "root.tar.zst"
    with _alone(cache / "lock"):
        if not image.exists():
            part = cache / "part.tar.zst"
            _make(part)
            part.rename(image)
    return image


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(target: Path) -> None:
    remove = " ".join(f'"$1/{path}"' for path in (*_TOLD_BY_HOST, *_NOT_NEEDED))
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--aptopt={line}" for line in _proxies()]
    command += [f"--customize-hook=rm -rf {remove}", SUITE, str(target), *_mirrors()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_MAKE_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap cannot make a Debian 12 root:\n{done.stderr[-3000:]}")


def _mirrors() -> list[str]:
    """Lines of sources.list; none (mmdebstrap's default) where the host has no sources of Debian 12."""
    wanted = "$(ORIGIN)|$(CODENAME)|deb $(SITE) $(RELEASE) $(COMPONENT)"
    listed = _asked("apt-get", "indextargets", "--format", wanted, "Identifier: Packages")
    rows = [line.split("|") for line in listed]
    return list(dict.fromkeys(row[2] for row in rows if row[0] == "Debian" and row[1].split("-")[0] == SUITE))


def _proxies() -> list[str]:
    return _asked("apt-config", "dump", "--no-empty", "Acquire::http::Proxy", "Acquire::https::Proxy")


def _asked(*command: str) -> list[str]:
    """The lines of the host's answer; none where it has no apt."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()
    except FileNotFoundError:
        return []
