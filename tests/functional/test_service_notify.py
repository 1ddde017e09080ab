"""The real daemon under a simulated service manager: when it says that it is ready, and when its watchdog isn't fed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import issue
from daemon_process import Daemon
from notify_socket import NotifySocket
from running import activate, add, free_port

from appliance import limits
from appliance.osutil.notify import VARIABLES

FakeFolder = Callable[..., Path]
_FED_WITHIN = 2.5  # told once a second


@pytest.fixture
def manager(short_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(short_path / "notify") as listening:
        yield listening


def started(folder: Path, manager: NotifySocket, config: str) -> Daemon:
    (folder / "d").mkdir(exist_ok=True)
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000"}
    return Daemon(folder / "d", config=config, env=env)


def address() -> str:
    return f'[server]\naddress = "127.0.0.1:{free_port()}"\nfront_ends = 1\n'


def test_ready_only_with_the_required_models_and_stopping(
    short_path: Path, manager: NotifySocket, fake_folder: FakeFolder
) -> None:
    daemon = started(short_path, manager, address() + '[models]\nrequired = ["needed"]\n')
    try:
        daemon.ready()
        manager.wait_for("STATUS=the only model is not ready; not available: needed")
        manager.wait_for("EXTEND_TIMEOUT_USEC=")
        add(daemon, fake_folder("other"))
        manager.wait_for("STATUS=1 of 2 models are ready; not available: needed")
        assert "READY" not in {line.partition("=")[0] for line in manager.lines()}
        add(daemon, fake_folder("needed", load_delay_ms=100), no_activate=True)
        assert not manager.values("READY")
        activate(daemon, "needed")
        manager.wait_for("READY=1")
        manager.wait_for(f"STATUS=serving 2 models on {daemon.address}")

        for pid in (daemon.process_of("front-end 0"), daemon.process_of("sync"), daemon.model("needed").pid):
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"APPLIANCE_PARENT" in environ
            assert not any(name.encode() in environ for name in VARIABLES)

        assert daemon.stop() == 0
        assert manager.wait_for("STOPPING=1").lines[1] == "STATUS=stopping: running calls may finish within 20 s"
        assert manager.values("READY") == ["1"]
        assert manager.told[-1].lines[0] == "STOPPING=1"
    finally:
        daemon.kill()
        print("\n".join(daemon.log))


def test_a_restart_is_ready_only_when_the_required_model_is_loaded_again(
    short_path: Path, manager: NotifySocket, fake_folder: FakeFolder
) -> None:
    config = address()
    with_model = started(short_path, manager, config)
    try:
        with_model.ready()
        add(with_model, fake_folder("slow", load_delay_ms=1500))
    finally:
        with_model.stop()
    seen = len(manager.told)
    daemon = started(short_path, manager, config + '[models]\nrequired = ["slow"]\n')
    try:
        loading = manager.wait_for("loading slow", since=seen)
        ready = manager.wait_for("READY=1", since=seen)
        assert loading.at < ready.at
        assert daemon.ready().model("slow").state == "ready"
    finally:
        daemon.stop()
        print("\n".join(daemon.log))


def test_a_daemon_that_cannot_serve_says_why(short_path: Path, manager: NotifySocket) -> None:
    (short_path / "d").mkdir()
    (short_path / "d" / "state").write_text("in the way")
    daemon = started(short_path, manager, "")
    assert daemon.process.wait(60) == 1
    manager.wait_for("STATUS=cannot use the folder")
    assert not manager.values("READY")


def test_reload(short_path: Path, manager: NotifySocket) -> None:
    authority = issue("authority")
    issue("first", authority).write(short_path, "server")
    config = f'{address()}[server.tls]\ncertificate = "{short_path}/server.pem"\nkey = "{short_path}/server.key"\n'
    daemon = started(short_path, manager, config)
    try:
        manager.wait_for("READY=1")
        for key, words in ((b"no key", "; not reloaded: server.tls"), (None, "without a model")):
            if key is None:
                issue("second", authority).write(short_path, "server")
            else:
                (short_path / "server.key").write_bytes(key)
            seen, before = len(manager.told), time.monotonic_ns() // 1000
            daemon.process.send_signal(signal.SIGHUP)
            begin = manager.wait_for("RELOADING=1", since=seen)
            usec = next(int(line.partition("=")[2]) for line in begin.lines if line.startswith("MONOTONIC_USEC="))
            assert before <= usec <= time.monotonic_ns() // 1000
            assert manager.wait_for("READY=1", since=seen).at >= begin.at
            manager.wait_for(words, since=seen)
        assert "not reloaded" not in manager.values("STATUS")[-1]
    finally:
        daemon.stop()
        print("\n".join(daemon.log))


def test_a_reload_takes_up_the_configuration_while_calls_go_on(
    short_path: Path, manager: NotifySocket, fake_folder: FakeFolder
) -> None:
    config = address()
    daemon = started(short_path, manager, config)
    file = short_path / "d" / "appliance.toml"

    def reload(text: str, words: str) -> None:
        file.write_text(text)
        seen = len(manager.told)
        daemon.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1", since=seen)
        manager.wait_for(words, since=seen)

    try:
        manager.wait_for("READY=1")
        add(daemon.ready(), fake_folder("model"))
        sync, front_end = daemon.process_of("sync"), daemon.process_of("front-end 0")

        reload(config + "thread = 3\n", "not reloaded: ")
        assert "no registry is configured" in daemon.cli("sync", "status").stdout

        reload(config + 'threads = 9\n[registry]\nurl = "offline:"\n', "in force only after a restart: server.threads")
        daemon.eventually(lambda: daemon.process_of("sync") != sync)
        assert "no registry is configured" not in daemon.cli("sync", "status").stdout
        assert daemon.process_of("front-end 0") == front_end

        reload(config + '[models]\nrequired = ["absent"]\n[log]\nformat = "json"\n', "required: absent")
        assert not daemon.status().ready
        daemon.eventually(lambda: daemon.log[-1].startswith("{"))
        reload(config, "serving 1 model on ")
        assert daemon.status().ready
        assert daemon.model("model").restarts == 0
    finally:
        daemon.stop()
        print("\n".join(daemon.log))


@pytest.mark.slow
def test_a_part_that_hangs_starves_the_watchdog_until_it_has_been_replaced(
    short_path: Path, manager: NotifySocket, fake_folder: FakeFolder
) -> None:
    """Both at once, as each takes the 20 s after which the daemon itself replaces what is silent. An engine doesn't count."""
    daemon = started(short_path, manager, address())
    stopped: list[int] = []
    try:
        manager.wait_for("READY=1")
        daemon.ready()
        add(daemon, fake_folder("hangs"))
        engine = daemon.model("hangs").pid
        parts = {role: daemon.process_of(role) for role in ("sync", "front-end 0")}

        os.kill(engine, signal.SIGSTOP)
        stopped.append(engine)
        still_fed(manager, limits.proof_of_life_ms_max / 1000 + _FED_WITHIN)

        for pid in parts.values():
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        hung_at, seen = time.monotonic(), len(manager.told)
        manager.wait_for("no sign of life from", since=seen)
        alone = manager.wait_for("no sign of life from front-end 0, sync", since=seen)
        fed_again = manager.wait_for("WATCHDOG=1", since=manager.told.index(alone))
        assert fed_again.at - hung_at > limits.beat_silence_ms_max / 1000 - _FED_WITHIN
        assert fed_again.at - alone.at > limits.proof_of_life_ms_max / 1000

        daemon.ready()  # the new front-end listens
        daemon.eventually(lambda: all(daemon.process_of(role) != pid for role, pid in parts.items()))
        assert daemon.process.poll() is None
        still_fed(manager, _FED_WITHIN)
    finally:
        daemon.stop()
        print("\n".join(daemon.log))


@pytest.mark.parametrize("role", ["sync", "front-end 0"])
def test_each_part_is_needed_for_the_watchdog(short_path: Path, manager: NotifySocket, role: str) -> None:
    daemon = started(short_path, manager, address())
    try:
        manager.wait_for("READY=1")
        pid = daemon.ready().process_of(role)
        os.kill(pid, signal.SIGSTOP)
        seen = len(manager.told)
        silent = manager.wait_for(f"no sign of life from {role}", since=seen)
        assert "WATCHDOG=1" not in silent.lines
        os.kill(pid, signal.SIGCONT)
        manager.wait_for("WATCHDOG=1", since=manager.told.index(silent))
        manager.wait_for("without a model: `appliance models add` brings one", since=manager.told.index(silent))
        assert daemon.process_of(role) == pid
    finally:
        daemon.stop()
        print("\n".join(daemon.log))


def test_a_supervisor_that_hangs_feeds_nothing(short_path: Path, manager: NotifySocket) -> None:
    daemon = started(short_path, manager, address())
    try:
        manager.wait_for("READY=1")
        os.kill(daemon.pid, signal.SIGSTOP)
        # Long enough for what it had sent before, and for two turns of its loop.
        quiet = subprocess.run([sys.executable, "-c", "import time; time.sleep(3)"], check=True)
        assert quiet.returncode == 0
        assert time.monotonic() - manager.last("WATCHDOG=1") > _FED_WITHIN
        os.kill(daemon.pid, signal.SIGCONT)
        manager.wait_for("WATCHDOG=1", since=len(manager.told))
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
        daemon.stop()


def still_fed(manager: NotifySocket, seconds: float) -> None:
    """Over so long, there is never a gap in what feeds the watchdog."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        manager.wait_for("WATCHDOG=1", _FED_WITHIN, since=len(manager.told))
