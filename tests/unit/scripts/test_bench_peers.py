"""Peers by name, and Triton's settings and life; the servers themselves are played by small programs."""

import importlib.util
import platform
import socket
import sys
from pathlib import Path

import pytest
from bench import peers
from bench.target import BenchError
from bench_simulators import write_program

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
# Says that it is ready by running what stands behind "--", as the real ones do.
PEER = """#!{python}
import subprocess, sys
if "--fails" in sys.argv or "broken.onnx" in sys.argv:
    sys.exit(2)
sys.exit(subprocess.run(sys.argv[sys.argv.index("--") + 1:]).returncode)
"""
TRITON = """#!{python}
import http.server, sys
option = dict(one.split("=", 1) for one in sys.argv[1:])
if option["--grpc-port"] == "13":
    sys.exit("failed to load all models")
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer((option["--http-address"], int(option["--http-port"])), Ready).serve_forever()
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    folder = tmp_path / "bench_peers"
    folder.mkdir()
    monkeypatch.setattr(peers, "PROGRAMS", folder)
    for name in peers.NAMES:
        write_program(folder / name, PEER)
    return folder


@pytest.fixture
def triton(tmp_path, monkeypatch):
    """The peer's module, with a wheel in its cache that has the right folders and a small server."""
    monkeypatch.syspath_prepend(SCRIPTS / "bench_peers")
    spec = importlib.util.spec_from_file_location("triton_peer", SCRIPTS / "bench_peers" / "triton_peer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = module.cache_folder("triton-pytriton-0.7.0")
    wheel = folder / "venv" / "lib" / "python3.11" / "site-packages" / "pytriton" / "tritonserver"
    stub = wheel / "python_backend_stubs" / ".".join(platform.python_version_tuple()[:2])
    for place in (folder / "venv" / "bin", wheel / "bin", wheel / "backends" / "python", stub):
        place.mkdir(parents=True)
    (folder / "installed.txt").write_text(module.REQUIREMENTS.read_text())
    (wheel / "backends" / "python" / "libtriton_python.so").touch()
    (stub / "triton_python_backend_stub").touch()
    write_program(wheel / "bin" / "tritonserver", TRITON)
    return module


@pytest.fixture
def onnx(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    return file


def test_ports_are_free_and_none_comes_twice():
    found = peers.free_ports(4)
    assert len(set(found)) == 4
    for port in found:
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", port))


def test_peers_run_while_the_block_lasts(programs, onnx):
    with peers.all_running(["mlserver", "triton"], onnx, "forest") as found:
        assert [one.target.label for one in found] == ["mlserver", "triton"]
        assert {one.target.model for one in found} == {"forest"}
        assert all(Path(f"/proc/{one.pid}").exists() for one in found)
    assert not any(Path(f"/proc/{one.pid}").exists() for one in found)


def test_a_peer_that_does_not_come_up_is_told(programs, tmp_path):
    with pytest.raises(BenchError, match="triton did not start"), peers.running("triton", Path("broken.onnx"), "m"):
        pass


def test_triton_serves_on_loopback_alone_with_this_interpreters_stub(triton, onnx, tmp_path):
    args, command = triton.parse(["--onnx", str(onnx), "--port", "8211", "--model-name", "forest", "--", "true"])
    assert command == ["true"]
    folder = tmp_path / "served"
    folder.mkdir()
    bin_folder = triton.cache_folder("triton-pytriton-0.7.0") / "venv" / "bin"
    start = triton.lay_out(folder, args, bin_folder)
    assert "--grpc-port=8211" in start
    assert all(one.endswith("=127.0.0.1") for one in start if "-address=" in one)
    assert "--allow-metrics=false" in start
    backend = folder / "backends" / "python"
    assert {file.name for file in backend.iterdir()} == {"libtriton_python.so", "triton_python_backend_stub"}
    assert 'backend: "python"' in (folder / "models" / "forest" / "config.pbtxt").read_text()
    assert (folder / "models" / "forest" / "1" / "model.py").is_file()
    environment = triton.environment(args, bin_folder)
    assert environment["APPLIANCE_BENCH_ONNX"] == str(onnx)
    assert environment["PATH"].startswith(str(bin_folder))


def test_the_command_runs_while_triton_is_ready_and_its_status_is_kept(triton, onnx):
    port, http_port = peers.free_ports(2)
    code = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{http_port}'); raise SystemExit(7)"
    options = ["--onnx", str(onnx), "--port", str(port), "--http-port", str(http_port)]
    assert triton.main([*options, "--", sys.executable, "-c", code]) == 7


def test_a_triton_that_does_not_come_up_is_told_with_its_output(triton, onnx, capfd):
    (http_port,) = peers.free_ports(1)
    assert triton.main(["--onnx", str(onnx), "--port", "13", "--http-port", str(http_port), "--", "true"]) == 2
    told = capfd.readouterr().err
    assert "failed to load all models" in told
    assert "ended with 1 before it was ready" in told


def test_another_interpreter_than_the_wheel_has_a_stub_for_is_told(triton, onnx, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "99", "0"))
    args, _ = triton.parse(["--onnx", str(onnx)])
    bin_folder = triton.cache_folder("triton-pytriton-0.7.0") / "venv" / "bin"
    with pytest.raises(SystemExit, match="no backend stub for Python"):
        triton.lay_out(tmp_path, args, bin_folder)


def test_a_file_that_is_not_there_is_told(triton):
    with pytest.raises(SystemExit, match="no such file"):
        triton.main(["--onnx", "/no/such.onnx"])
