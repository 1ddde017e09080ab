"""Debian's docker-registry (CNCF distribution 2.8) on a loopback port, for tests against a real registry.

    with docker_registry(tmp_path / "registry") as registry:                     # anybody may read and write
    with docker_registry(folder, login=True) as registry:                        # basic: USER and PASSWORD
    with docker_registry(folder, tls=(certificate, key)) as registry:            # PEM files
    with docker_registry(folder, tls=..., clients=ca) as registry:               # only for this authority's clients
    with docker_registry(folder, upstream=other.url) as registry:                # pull-through proxy with a cold cache

Call ``required()`` at the top of a test module: without the program its tests are skipped, and fail where CI is set.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROGRAM = "docker-registry"
USER, PASSWORD = "box", "open sesame"
# bcrypt of PASSWORD (crypt_blowfish of libxcrypt, cost 5), the only kind that the registry takes; htpasswd isn't needed.
_HTPASSWD = USER + ":$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
_START_S = 30
_LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


class DockerRegistry(NamedTuple):
    """``storage``: its folder; ``log``: its last lines."""

    url: str
    storage: Path
    log: deque[str]

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]


def required(*programs: str) -> None:
    """Skips the module that calls it when a program is missing; raises where CI is set."""
    missing = [name for name in programs or (PROGRAM,) if not shutil.which(name)]
    if not missing:
        return
    text = f"{' and '.join(missing)} not installed (Debian: apt-get install {' '.join(missing)})"
    if os.environ.get("CI"):
        raise RuntimeError(text)
    pytest.skip(text, allow_module_level=True)


@contextlib.contextmanager
def docker_registry(
    folder: Path,
    *,
    login: bool = False,
    tls: tuple[Path, Path] | None = None,
    clients: Path | None = None,
    upstream: str = "",
) -> Iterator[DockerRegistry]:
    """A registry that listens, with its data in ``folder``. It ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yml"
    # JSON is YAML.
    config.write_text(json.dumps(_config(folder, login, tls, clients, upstream)))
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = subprocess.Popen(
        [PROGRAM, "serve", str(config)], stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, env=environment
    )
    log: deque[str] = deque(maxlen=5000)
    address: list[str] = []
    settled = threading.Event()
    reader = threading.Thread(target=_read, args=(process, log, address, settled), daemon=True)
    reader.start()
    try:
        if not settled.wait(_START_S) or not address:
            raise RuntimeError("docker-registry does not listen:\n" + "".join(log))
        yield DockerRegistry(f"http{'s' if tls else ''}://{address[0]}", folder / "data", log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()


def _config(
    folder: Path, login: bool, tls: tuple[Path, Path] | None, clients: Path | None, upstream: str
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "cache": {"blobdescriptor": "inmemory"},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": "127.0.0.1:0"},
    }
    if login:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "a real registry", "path": str(folder / "htpasswd")}}
    if tls:
        config["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        if clients:
            config["http"]["tls"]["clientcas"] = [str(clients)]
    if upstream:
        config["proxy"] = {"remoteurl": upstream}
    return config


def _read(process: "subprocess.Popen[str]", log: "deque[str]", address: list[str], settled: threading.Event) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            log.append(line)
            if not address and (found := _LISTENING.search(line)):
                address.append(found[1])
                settled.set()
    settled.set()
