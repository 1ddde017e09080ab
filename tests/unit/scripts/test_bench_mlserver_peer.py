"""The peer's settings and its life; MLServer itself is played by a small program."""

import http.server
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[3] / "scripts" / "bench_peers"
SIMULATOR = """#!{python}
import http.server, json, sys, pathlib
settings = json.loads((pathlib.Path(sys.argv[2]) / "settings.json").read_text())
if settings["parallel_workers"] == 9:
    sys.exit("the model could not be loaded")
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", settings["http_port"]), Ready).serve_forever()
"""


@pytest.fixture
def peer(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PEERS)
    spec = importlib.util.spec_from_file_location("mlserver_peer", PEERS / "mlserver_peer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = module.cache_folder()
    (folder / "venv" / "bin").mkdir(parents=True)
    (folder / "installed.txt").write_text(module.REQUIREMENTS.read_text())
    program = folder / "venv" / "bin" / "mlserver"
    program.write_text(SIMULATOR.format(python=sys.executable))
    program.chmod(0o755)
    return module


@pytest.fixture
def onnx(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    return str(file)


def _free_port():
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return plug.getsockname()[1]


def test_settings_say_what_is_served_and_how(peer, onnx, tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    args, _ = peer.parse(["--onnx", onnx, "--port", "8111", "--no-metrics"])
    peer.write_settings(folder, args, tmp_path)
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["grpc_port"], settings["parallel_workers"], settings["metrics_endpoint"]) == (8111, 0, None)
    assert settings["host"] == "127.0.0.1"
    model = json.loads((folder / "peer" / "model-settings.json").read_text())
    assert model["parameters"]["uri"] == onnx
    assert model["implementation"] == "mlserver_onnx.OnnxModel"


def test_the_command_runs_while_the_server_is_ready_and_its_status_is_kept(peer, onnx, tmp_path):
    port = _free_port()
    seen = tmp_path / "seen"
    code = (
        f"import urllib.request, pathlib; urllib.request.urlopen('http://127.0.0.1:{port}'); "
        f"pathlib.Path({str(seen)!r}).touch(); raise SystemExit(7)"
    )
    status = peer.main(["--onnx", onnx, "--http-port", str(port), "--", sys.executable, "-c", code])
    assert status == 7
    assert seen.exists()
    # Stopped: the port is free again.
    http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler).server_close()


def test_a_server_that_does_not_come_up_is_told_with_its_output(peer, onnx, capfd):
    status = peer.main(["--onnx", onnx, "--workers", "9", "--http-port", str(_free_port()), "--", "true"])
    assert status == 2
    told = capfd.readouterr().err
    assert "the model could not be loaded" in told
    assert "ended with 1 before it was ready" in told


def test_a_file_that_is_not_there_is_told(peer):
    with pytest.raises(SystemExit, match="no such file"):
        peer.main(["--onnx", "/no/such.onnx"])


def test_the_cache_is_the_users(peer, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert peer.cache_folder() == Path("/home/someone/.cache/inference-appliance/peers/mlserver-1.7.1")


def test_entries_are_executable():
    for entry in (PEERS / "mlserver", PEERS.parent / "bench_oip", PEERS.parent / "bench_llm"):
        assert os.access(entry, os.X_OK)
