"""What the peers have in common: an environment of their own, a command to run while they serve, an end in any case.

Standard library only, so that it runs in any interpreter.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

READY_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 20.0


class NotReady(Exception):
    """The server did not come up."""


def cache_folder(name: str) -> Path:
    """Where a peer's environment lives, outside the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "inference-appliance" / "peers" / name


def ensure_installed(folder: Path, requirements: Path, title: str, *options: str) -> Path:
    """Return the environment's bin folder, made now if it is not there or if the pins changed. ``options``: pip's."""
    venv, stamp = folder / "venv", folder / "installed.txt"
    wanted = requirements.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return venv / "bin"
    print("installing", title, "into", venv, "(a minute or two)", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, "-r", str(requirements)], check=True)
    stamp.write_text(wanted)
    return venv / "bin"


def split_command(argv: list[str]) -> tuple[list[str], list[str]]:
    """The peer's own arguments, and the command after "--"."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def model_is_ready(http_port: int, model: str) -> bool:
    """Whether the model takes calls (Open Inference Protocol over HTTP)."""
    url = f"http://127.0.0.1:{http_port}/v2/models/{model}/ready"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_ready(server: "subprocess.Popen[bytes]", is_ready: Callable[[], bool], title: str) -> None:
    """Return once ``is_ready`` says so; NotReady when the server ended or took too long."""
    end = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < end:
        if server.poll() is not None:
            raise NotReady(f"{title} ended with {server.returncode} before it was ready: see its output above")
        if is_ready():
            return
        time.sleep(0.1)
    raise NotReady(f"{title} was not ready within {READY_SECONDS_MAX:.0f} s")


def stop(server: "subprocess.Popen[bytes]") -> None:
    """End the server and the workers of its process group."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if server.poll() is None:
            os.killpg(server.pid, signal_number)
            try:
                server.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                continue


def serve(
    start: list[str],
    folder: Path,
    environment: dict[str, str],
    command: list[str],
    *,
    title: str,
    is_ready: Callable[[], bool],
    told: str,
    cpus: str | None,
) -> int:
    """Start the server, run ``command`` once it is ready (without one: wait for Ctrl-C), and stop it.

    Returns the command's exit status, 0 after Ctrl-C, or 2 when the server did not come up; then its output is told.
    """
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            start, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        if cpus:
            os.sched_setaffinity(server.pid, {int(cpu) for cpu in cpus.split(",")})
        wait_ready(server, is_ready, title)
        print(told, file=sys.stderr)
        return subprocess.run(command, check=False).returncode if command else server.wait()
    except KeyboardInterrupt:
        return 0
    except NotReady as error:
        sys.stderr.write((folder / "log").read_text(errors="replace")[-4000:])
        print(f"{title.partition(' ')[0].lower()}: {error}", file=sys.stderr)
        return 2
    finally:
        stop(server)
