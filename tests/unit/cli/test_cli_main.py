"""The command's shell: exit codes, one-line errors, help, start-up time, and reaching the daemon."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from daemon_simulator import DaemonSimulator

from appliance import __version__
from appliance.cli import client, exit_codes
from appliance.cli.exit_codes import MEANINGS, ExitCode
from appliance.cli.options import Target, complete_model
from appliance.errors import Code


def installed(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance.cli.main", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )


def commands() -> list[list[str]]:
    groups = {
        "models": ["list", "show", "add", "activate", "deactivate", "remove", "rollback"],
        "store": ["check", "repair", "gc"],
        "sync": ["status", "now", "pause", "resume"],
        "registry": ["trust", "clock"],
        "bundle": ["export", "import"],
        "config": ["check", "show", "systemd"],
        "setup": ["client", "renew"],
        "state": ["show", "restore"],
        "publish": [
            *("init", "key", "pack", "push", "release", "withdraw", "refresh", "rotate", "status"),
            *("request", "sign", "combine", "fetch", "fleet"),
        ],
    }
    alone = ["serve", "setup", "status", "logs", "infer", "chat", "embed", "rerank", "doctor", "version"]
    return [[name] for name in alone] + [[group, name] for group, names in groups.items() for name in names]


def test_version(cli):
    assert cli("version").out == f"appliance {__version__} (Python {sys.version.split()[0]})\n"
    assert cli("--version").out == cli("version").out
    assert cli("version", "--json").json["version"] == __version__
    # By way of typer, which reads it where other words stand before.
    assert cli("version", "--json", "--json").json == cli("version", "--json").json


def test_version_starts_fast():
    """Under 150 ms; the fastest of five, since the machine is shared."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        assert installed("version").returncode == 0
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.150


@pytest.mark.parametrize("arguments", [["version"], ["--version"], ["version", "--json"]])
def test_version_imports_nothing_large(arguments):
    code = (
        "import sys; from appliance.cli.main import run; run(sys.argv[1:]);"
        "print(sorted({'grpc','rich','numpy','typer','msgspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_has_an_example_and_fits(cli, command):
    done = cli(*command, "--help")
    assert done.code == 0
    assert f"Example: appliance {' '.join(command)}" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_no_command_is_forgotten(cli):
    named = re.findall(r"^│ (\w+) ", cli("--help").out, re.MULTILINE)
    assert {name for name in named if name.islower()} == {c[0] for c in commands()}


def test_help_documents_every_exit_status(cli):
    out = cli("--help").out
    assert set(MEANINGS) == set(ExitCode)
    for code in ExitCode:
        assert re.search(rf"^ +{code.value}  {MEANINGS[code][:40]}", out, re.MULTILINE)


@pytest.mark.parametrize("arguments", [[], ["models"], ["store"], ["sync"], ["registry"], ["config"]])
def test_a_group_alone_shows_its_help(cli, arguments):
    done = cli(*arguments)
    assert done.code == ExitCode.USAGE
    assert "Usage: appliance" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statu"], "Did you mean 'status'"),
        (["infer"], "Missing argument 'MODEL'"),
        (["status", "--wach"], "--watch"),
        (["chat", "m", "hi", "--top-p", "3"], "--top-p"),
        (["chat", "m", "hi", "--seed", "x"], "--seed"),
        (["chat", "m", "hi", "--priority", "-1"], "--priority"),
        (["rerank", "m"], "QUERY"),
        (["status", "--timeout", "-1"], "--timeout"),
        (["models", "remove", "m"], "VERSION"),
    ],
)
def test_wrong_use_is_one_line(cli, arguments, words):
    done = cli(*arguments)
    assert done.code == ExitCode.USAGE
    assert done.err.startswith("appliance: ")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_no_daemon(cli, short_folder):
    done = cli("status", "--socket", short_folder / "none.sock")
    assert done.code == ExitCode.UNREACHABLE
    assert f"no daemon at unix socket {short_folder / 'none.sock'}" in done.err
    assert "appliance serve" in done.err


def test_stale_socket(cli, daemon):
    daemon.stop()
    if not daemon.socket.exists():
        import socket

        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(daemon.socket))
    done = cli("status", "--socket", daemon.socket)
    assert (done.code, "Connection refused" in done.err) == (ExitCode.UNREACHABLE, True)


def test_socket_path_too_long(cli):
    done = cli("status", "--socket", "/" + "x" * 200)
    assert done.code == ExitCode.UNREACHABLE


def test_nothing_listens_at_the_address(cli):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = cli("status", "--address", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.code == ExitCode.UNREACHABLE


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "::1:8001", "127.0.0.1:99999"])
def test_bad_address(cli, address):
    done = cli("status", "--address", address)
    assert done.code == ExitCode.USAGE
    assert done.err.startswith(f"appliance: --address {address}: ")


def test_tcp(cli, daemon):
    assert cli("status", "--address", daemon.address, "--json").json["version"] == "9.9.9"


def test_something_else_listens(cli):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = cli("status", "--address", f"127.0.0.1:{other.getsockname()[1]}", "--timeout", "0.3")
    assert done.code == ExitCode.TIMED_OUT


@pytest.mark.parametrize("status", [s for s in grpc.StatusCode if s is not grpc.StatusCode.OK])
def test_exit_status_follows_the_call(ask, daemon, status):
    daemon.world.fail_with = (status, "because\nof [red]this[/red]")
    done = ask("models", "deactivate", "m")
    assert done.code == exit_codes.of_status(status.name) != 0
    if status is not grpc.StatusCode.DEADLINE_EXCEEDED:
        assert done.err == "appliance: because of [red]this[/red]\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["config", "check", "--config", "/none.toml"], ExitCode.INVALID_INPUT),
        (["status", "--socket", "/none.sock"], ExitCode.UNREACHABLE),
        (["status", "--wach"], ExitCode.USAGE),
    ],
)
def test_a_failure_is_one_json_document_too(cli, arguments, code):
    done = cli(*arguments, "--json")
    assert done.code == code
    message = done.err.removeprefix("appliance: ").removesuffix("\n")
    assert done.json == {"error": {"message": message, "exit_status": code}}


def test_a_service_that_is_not_offered_at_the_address(ask, daemon):
    daemon.world.fail_with = (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    done = ask("models", "deactivate", "m")
    assert done.code == ExitCode.DENIED
    assert "unix socket only" in done.err


def test_a_call_that_the_daemon_cuts_off(ask, daemon):
    daemon.world.fail_with = (grpc.StatusCode.CANCELLED, "CANCELLED")
    done = ask("models", "deactivate", "m")
    assert done.code == ExitCode.UNAVAILABLE
    assert "may be stopping" in done.err


def test_tls_files_that_are_no_pem(cli, daemon, certificates, tmp_path):
    ca, _, key = certificates
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not a certificate")
    done = cli("status", "--address", daemon.address, "--tls-ca", wrong)
    assert (done.code, f"--tls-ca {wrong} holds no certificate" in done.err) == (ExitCode.INVALID_INPUT, True)
    done = cli("status", "--address", daemon.address, "--tls-ca", ca, "--tls-cert", ca, "--tls-key", key)
    assert (done.code, "don't work together: key values mismatch" in done.err) == (ExitCode.INVALID_INPUT, True)


def test_every_code_of_ours_has_an_exit_status():
    assert {code.value for code in Code} - set(exit_codes.BY_STATUS) == {"INTERNAL"}


def test_daemon_that_vanishes_during_an_answer(ask, daemon):
    daemon.world.endless = True
    original = daemon.world.heard
    import threading

    def heard(request, context):
        original(request, context)
        threading.Thread(target=daemon.stop).start()

    daemon.world.heard = heard
    done = ask("chat", "m", "hello")
    assert done.code in (ExitCode.UNREACHABLE, ExitCode.UNAVAILABLE)
    assert done.err.count("\n") == 1


def test_timeout(ask, daemon):
    daemon.world.endless = True
    done = ask("chat", "m", "hello", "--timeout", "0.2")
    assert done.code == ExitCode.TIMED_OUT
    assert "--timeout" in done.err


def test_unforeseen_errors_are_one_line_too(cli, monkeypatch):
    monkeypatch.delenv("APPLIANCE_DEBUG")
    monkeypatch.setattr("appliance.cli.doctor.examine", lambda _: 1 / 0)
    done = cli("doctor")
    assert done.code == ExitCode.FAILED
    assert done.err == (
        "appliance: unexpected ZeroDivisionError: division by zero (set APPLIANCE_DEBUG=1 to see where)\n"
    )


def test_socket_of_the_configuration(cli, daemon, tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(f"[server]\nunix_socket = '{daemon.socket}'")
    assert cli("status", "--config", file).code == 0
    file.write_text("[server]\nunix_sockt = 'x'")
    done = cli("status", "--config", file)
    assert done.code == ExitCode.INVALID_INPUT
    assert "did you mean server.unix_socket?" in done.err


def test_environment_names_the_daemon(cli, daemon, monkeypatch):
    monkeypatch.setenv("APPLIANCE_SOCKET", str(daemon.socket))
    assert cli("status").code == 0
    monkeypatch.delenv("APPLIANCE_SOCKET")
    monkeypatch.setenv("APPLIANCE_ADDRESS", daemon.address)
    assert cli("status").code == 0


def test_packaged_daemon_is_found_when_there_is_no_own_one(cli, daemon, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(client, "SYSTEM_SOCKET", daemon.socket)
    assert cli("status").code == 0


def test_tls_options_need_an_address(cli, tmp_path):
    assert cli("status", "--tls-ca", tmp_path / "ca.pem").code == ExitCode.USAGE


def test_tls_key_without_certificate(cli, daemon, tmp_path):
    done = cli("status", "--address", daemon.address, "--tls-key", tmp_path / "k.pem")
    assert (done.code, "belong together" in done.err) == (ExitCode.USAGE, True)


def test_tls_file_that_is_not_there(cli, daemon, tmp_path):
    done = cli("status", "--address", daemon.address, "--tls-ca", tmp_path / "ca.pem")
    assert done.code == ExitCode.INVALID_INPUT
    assert "ca.pem: No such file or directory" in done.err


def test_tls(cli, short_folder, certificates):
    authority, certificate, key = certificates
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())], authority.read_bytes(), require_client_auth=True
    )
    simulator = DaemonSimulator(short_folder / "tls.sock", credentials)
    to = ["status", "--address", simulator.address, "--timeout", "10"]
    good = cli(*to, "--tls-ca", authority, "--tls-cert", certificate, "--tls-key", key)
    no_certificate = cli(*to, "--tls-ca", authority)
    no_tls = cli(*to)
    simulator.stop()
    assert good.code == 0
    assert no_certificate.code == no_tls.code == ExitCode.UNREACHABLE
    assert "--tls-ca" in no_tls.err


def test_completion_of_model_names(daemon, monkeypatch):
    daemon.world.add("press", "1.0.0")
    daemon.world.add("press", "1.1.0")
    daemon.world.add("iris", "1.0.0")
    monkeypatch.setattr("appliance.cli.client.find_socket", lambda _: daemon.socket)
    assert complete_model("") == ["iris", "press"]
    assert complete_model("p") == ["press"]
    daemon.world.fail_with = (grpc.StatusCode.INTERNAL, "no")
    assert complete_model("") == []


def test_completion_asks_the_daemon_of_the_environment(daemon, monkeypatch):
    daemon.world.add("press", "1.0.0")
    monkeypatch.setenv("APPLIANCE_SOCKET", str(daemon.socket))
    assert complete_model("p") == ["press"]


def test_shell_completion_script():
    done = installed(env={**os.environ, "_APPLIANCE_COMPLETE": "source_bash"})
    assert done.returncode == 0
    assert "complete" in done.stdout


def test_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m appliance.cli.main config show --json | head -c 1",
        shell=True,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""


def test_target_is_what_the_options_say():
    assert Target._fields == ("address", "socket", "tls_ca", "tls_cert", "tls_key", "config", "timeout")


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The configurations with which a stand-in for the daemon was run."""
    import types

    given = []
    stub = types.ModuleType("appliance.daemon.main")
    stub.run = lambda config, read: given.append(config) or given.append(read) or 7
    monkeypatch.setitem(sys.modules, "appliance.daemon.main", stub)
    monkeypatch.chdir(tmp_path)
    return given


# As typer reads it, and as start.py does.
@pytest.mark.parametrize("address", [["--address=[::1]:0"], ["--address", "[::1]:0"]])
def test_serve_hands_the_configuration_over(cli, started, tmp_path, address):
    done = cli("serve", "--state-dir", "s", "--runtime-dir", "/r", *address)
    assert done.code == 7
    assert started[0].state_dir == tmp_path / "s"
    assert started[0].unix_socket == Path("/r/appliance.sock")
    assert started[0].server.address == "[::1]:0"
    bad = cli("serve", "--address", "0.0.0.0:1")
    assert bad.code == ExitCode.INVALID_INPUT
    assert "server.insecure = true" in bad.err
    assert len(started) == 2


def test_serve_reads_the_file(cli, started, tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text("[server]\nthreads = 5")
    assert cli("serve", "--config", "a.toml").code == 7
    monkeypatch.setenv("APPLIANCE_CONFIG", str(tmp_path / "a.toml"))
    assert cli("serve").code == 7
    (tmp_path / "a.toml").write_text("[server]\nthreads = 6")
    assert [config.server.threads for config in started[::2]] == [5, 5]
    # A reload reads it anew, as it was named.
    assert [read().server.threads for read in started[1::2]] == [6, 6]


@pytest.mark.parametrize("arguments", [["--state-dir"], ["--sate-dir", "x"], ["--state-dir", "x", "y"], ["x"]])
def test_serve_used_wrongly(cli, started, arguments):
    assert cli("serve", *arguments).code == ExitCode.USAGE
    assert started == []


def test_serve_keeps_the_supervisor_small():
    code = (
        "import sys, types; m = types.ModuleType('appliance.daemon.main'); m.run = lambda c: 0;"
        "sys.modules['appliance.daemon.main'] = m; from appliance.cli.main import run; run(sys.argv[1:]);"
        "print(sorted({'grpc','rich','numpy','typer','pydantic'} & set(sys.modules)))"
    )
    arguments = ["serve", "--address", "127.0.0.1:0"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
