"""A machine for tests: Debian 12 with its own systemd as PID 1, in a container, up in half a second.

    with Machine(root) as machine:                    # `root`: folders of files, the topmost first; none is written to
        machine.run("systemctl", "is-active", "dbus")
        machine.reboot()                              # its disk stays, as over power_cut() and boot()
        machine.path("/etc/hostname").read_text()

systemd-nspawn on an overlay in memory; commands go in by nsenter, as machinectl would need a systemd on the host. No
network but its own loopback. The journal of machines that run is shown with tests that fail (tests/systemd/conftest.py).
"""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import machine_ground as ground

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEADLINE = 60.0
# Not systemd-nspawn's defaults. Registering needs a systemd on the host. BPF is what IPAddressDeny= and DevicePolicy=
# are made of: without these two they are ignored, without a word.
_OPTIONS = ["--boot", "--register=no", "--keep-unit", "--notify-ready=yes", "--console=read-only", "--link-journal=no"]
_OPTIONS += ["--resolv-conf=off", "--timezone=off", "--private-network", "--kill-signal=SIGRTMIN+3"]
_OPTIONS += ["--capability=CAP_BPF,CAP_NET_ADMIN", "--system-call-filter=bpf"]
_REBOOT = 133  # systemd-nspawn's exit status when what it ran wants to be started again
_LAST_LINES = 120
_numbers = itertools.count()

running: list["Machine"] = []


class Machine:
    """One machine; ``boot`` starts it, and it is off again after the block, its disk gone.

    ``bounded``: with MemoryMax= and the like in force, also where the host has the old control groups for them.
    """

    def __init__(self, *root: Path, bounded: bool = False) -> None:
        self._old_groups = bounded and not ground.has_memory_controller()
        self.name = f"ia-{os.getpid()}-{next(_numbers)}"
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self._root = root
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.leader = 0
        self.boot_seconds = 0.0

    def __enter__(self) -> "Machine":
        ground.mount_overlay(self._folder, self._root)
        try:
            self.boot()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, error: type[BaseException] | None = None, *_: object) -> None:
        if error is not None and self.leader:
            print(self.last_words())
        self.power_cut()
        ground.unmount(self._folder)
        shutil.rmtree(self._folder)

    # --- on and off --------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Starts it; over when its systemd says that everything is up."""
        began = time.monotonic()
        told = self._folder / "notify"
        told.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening, self._console().open("ab") as console:
            listening.bind(str(told))
            listening.settimeout(DEADLINE)
            environment = {**os.environ, "NOTIFY_SOCKET": str(told)}
            if not self._old_groups:
                environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
            command = ["systemd-nspawn", "-D", str(self._folder / "root"), "-M", self.name, *_OPTIONS]
            self._nspawn = subprocess.Popen(
                ground.in_its_own_group(self.name, command, self._old_groups),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
            self._wait_until_up(listening)
        if self._old_groups:
            self._use_old_groups()
        self.boot_seconds = time.monotonic() - began
        running.append(self)

    def _wait_until_up(self, listening: socket.socket) -> None:
        while True:
            try:
                lines = listening.recv(4096).decode().splitlines()
            except TimeoutError:
                raise AssertionError(f"does not boot:\n{self._console().read_text()[-3000:]}") from None
            for line in lines:
                if line.startswith("X_NSPAWN_LEADER_PID="):
                    self.leader = int(line.partition("=")[2])
            if "READY=1" in lines:
                return

    def _use_old_groups(self) -> None:
        """systemd-nspawn mounts them read-only; a systemd that starts anew sees that they no longer are."""
        for controller in ("memory", "pids", "cpu", "cpuacct"):
            self.run("mount", "-o", "remount,bind,rw", f"/sys/fs/cgroup/{controller}", check=False)
        self.run("systemctl", "daemon-reexec")

    def _console(self) -> Path:
        return self._folder / "console"

    def reboot(self) -> None:
        """In order, and up again."""
        self.run("systemctl", "reboot", "--no-block")
        assert self._wait() == _REBOOT, self._console().read_text()[-3000:]
        self._off()
        self.boot()

    def power_off(self) -> None:
        """In order."""
        self.run("systemctl", "poweroff", "--no-block")
        assert self._wait() == 0, self._console().read_text()[-3000:]
        self._off()

    def power_cut(self) -> None:
        """All processes are gone at once. What they had written is there, as it would not be on a real disk."""
        if self.leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGKILL)
        if self._nspawn is not None:
            self._wait()
        self._off()

    def _wait(self) -> int:
        assert self._nspawn is not None
        try:
            return self._nspawn.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            return self._nspawn.wait()

    def _off(self) -> None:
        self._nspawn, self.leader = None, 0
        ground.kill_group(self.name)
        ground.remove_group(self.name)
        if self in running:
            running.remove(self)

    # --- inside ------------------------------------------------------------------------------------------------------

    def run(
        self, *command: str, check: bool = True, stdin: str | None = None, seconds: float = DEADLINE
    ) -> "subprocess.CompletedProcess[str]":
        """A command inside, as root."""
        done = subprocess.run(
            [*self._enter(), "env", "-C", "/", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8", *command],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "--"]

    def path(self, inside: str) -> Path:
        """A file or a unix socket in there, for us outside; as long as it is not booted again."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def in_network(self, *command: str) -> list[str]:
        """The command line that runs a program of the host's in the machine's network."""
        return ["nsenter", "-t", str(self.leader), "-n", "--", *command]

    def put(self, source: Path, inside: str) -> None:
        """Copies a file or a folder into it, readable by everybody."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
        self.run("chmod", "-R", "a+rX", inside)

    def journal(self, *options: str) -> str:
        """What `journalctl` prints of this boot, without the machine's name."""
        command = ("journalctl", "--boot", "--no-hostname", "--output=short-precise", *options)
        return self.run(*command).stdout

    def last_words(self) -> str:
        """The journal's end, for the report of a failure; never an error."""
        try:
            return self.journal(f"--lines={_LAST_LINES}")
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            return f"no journal of {self.name}: {error}"

    def eventually(self, condition: Callable[[], bool], seconds: float = DEADLINE, what: str = "") -> float:
        """Polls until ``condition`` holds, which may raise OSError until then; how many seconds it took."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                if condition():
                    return time.monotonic() - began
            assert time.monotonic() - began < seconds, f"not in {seconds} s: {what or condition}"
            time.sleep(0.02)

    def disk(self) -> Sequence[Path]:
        """Its files as folders for another ``Machine``, once it is off: what it has written, above its root."""
        assert not self.leader, "a disk is read while its machine is off"
        return (self._folder / "disk" / "upper", *self._root)
