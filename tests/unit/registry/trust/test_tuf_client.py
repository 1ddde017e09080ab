"""scripts/tuf_client over real HTTP: the command line that conformance suites call, and servers that misbehave."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError
from tuf.api.metadata import Metadata, TargetFile

from appliance import limits
from appliance.clock import FakeClock, SystemClock
from appliance.registry.trust import command, plain_http
from tests.support.tuf_repository import TufRepository

ROOT = Path(__file__).parents[4]


class Server(ThreadingHTTPServer):
    """``files`` by path; ``answer`` does something else instead. ``asked``: the paths of all requests."""

    daemon_threads = True
    files: dict[str, bytes]
    asked: list[str]
    answer: Callable[[BaseHTTPRequestHandler], None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.answer is not None:
            self.server.answer(self)
            return
        data = self.server.files.get(self.path)
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.files, made.asked = {}, []
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


class Setup:
    """An honest repository at the real time, served by ``server``, and a client's two folders."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.repo = TufRepository(FakeClock(wall_ns=SystemClock().wall_ns()))
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.root = folder / "root.json"
        self.root.write_bytes(self.repo.files["1.root.json"])
        self.serve()

    def serve(self) -> None:
        self.server.files = {f"/m/{name}": data for name, data in self.repo.files.items()} | {
            path: data for path, data in self.server.files.items() if path.startswith("/t/")
        }

    def add(self, path: str, data: bytes) -> None:
        target = TargetFile.from_data(path, data, ["sha256"])
        self.repo.signed("targets").targets[path] = target
        self.repo.publish("targets")
        folder, slash, name = path.rpartition("/")
        self.server.files[f"/t/{folder}{slash}{target.hashes['sha256']}.{name}"] = data
        self.serve()

    def run(self, *arguments: str) -> int:
        return command.main(["--metadata-dir", str(self.metadata), *arguments])

    def init(self) -> int:
        return self.run("init", str(self.root))

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self.server.url}/m", "refresh")

    def download(self, name: str) -> int:
        where = ["--target-name", name, "--target-base-url", f"{self.server.url}/t", "--target-dir", str(self.targets)]
        return self.run("--metadata-url", f"{self.server.url}/m", *where, "download")

    def roles(self) -> dict[str, int]:
        return {p.stem: Metadata.from_file(str(p)).signed.version for p in sorted(self.metadata.glob("*.json"))}


@pytest.fixture
def setup(server: Server, tmp_path: Path) -> Setup:
    return Setup(server, tmp_path)


def test_init_asks_nobody_and_refresh_in_order(setup: Setup) -> None:
    assert setup.init() == 0
    assert setup.server.asked == []
    assert setup.roles() == {"root": 1}
    assert setup.refresh() == 0
    assert setup.server.asked == ["/m/2.root.json", "/m/timestamp.json", "/m/1.snapshot.json", "/m/1.targets.json"]
    assert setup.roles() == {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}
    assert setup.init() == 0
    assert setup.roles()["timestamp"] == 1
    setup.server.asked.clear()
    assert setup.refresh() == 0
    assert setup.server.asked == ["/m/2.root.json", "/m/timestamp.json"]


def test_roots_are_followed_under_the_name_root_json(setup: Setup) -> None:
    setup.init()
    for _ in range(2):
        setup.repo.publish_root(setup.repo.rotate("root"))
    setup.serve()
    assert setup.refresh() == 0
    assert setup.roles()["root"] == 3
    setup.server.asked.clear()
    assert setup.refresh() == 0
    assert setup.server.asked[0] == "/m/4.root.json"


def test_download_and_its_cache(setup: Setup) -> None:
    setup.init()
    setup.add("a/b/model.bin", b"first")
    assert setup.download("a/b/model.bin") == 0
    (found,) = setup.targets.iterdir()
    assert found.read_bytes() == b"first"
    setup.server.asked.clear()
    assert setup.download("a/b/model.bin") == 0
    assert not [path for path in setup.server.asked if path.startswith("/t/")]
    setup.add("a/b/model.bin", b"second")
    assert setup.download("a/b/model.bin") == 0
    assert [path.read_bytes() for path in setup.targets.iterdir()] == [b"second"]


def test_a_target_that_is_not_the_signed_one(setup: Setup) -> None:
    setup.init()
    setup.add("model.bin", b"first")
    (path,) = [path for path in setup.server.files if path.startswith("/t/")]
    for bad in (b"other", b"first and more", b""):
        setup.server.files[path] = bad
        assert setup.download("model.bin") == 1
        assert list(setup.targets.iterdir()) == []
    del setup.server.files[path]
    assert setup.download("model.bin") == 1
    assert setup.download("no such target") == 1
    assert setup.roles()["targets"] == 2


def test_a_release_of_a_line_can_be_downloaded(setup: Setup) -> None:
    release = setup.repo.release("press", "1.0.0", b"{}")
    setup.repo.publish("models.press")
    setup.serve()
    setup.server.files[f"/t/models/press/1.0.0/{release.digest.removeprefix('sha256:')}.manifest.json"] = b"{}"
    setup.init()
    assert setup.download("models/press/1.0.0/manifest.json") == 0


@pytest.mark.parametrize("root", [b"", b"{}", b"\xff", b" " * 600_000])
def test_a_root_that_is_none(setup: Setup, root: bytes) -> None:
    setup.root.write_bytes(root)
    assert setup.init() == 1
    assert setup.refresh() == 1
    assert setup.server.asked == []


def test_an_expired_timestamp(setup: Setup) -> None:
    setup.init()
    setup.repo.clock.advance(-2 * 86_400)
    setup.repo.publish_online()
    setup.serve()
    assert setup.refresh() == 1
    assert setup.roles() == {"root": 1}


@pytest.mark.parametrize("arguments", [["refresh"], ["--metadata-url", "http://127.0.0.1:9", "download"]])
def test_missing_options(setup: Setup, arguments: list[str]) -> None:
    setup.init()
    assert setup.run(*arguments) == 1


def test_the_script_itself(setup: Setup) -> None:
    for arguments, status in ((["init", str(setup.root)], 0), (["--metadata-url", f"{setup.server.url}/m", "refresh"], 0),
                              (["--metadata-url", f"{setup.server.url}/none", "refresh"], 1)):  # fmt: skip
        done = subprocess.run(
            [ROOT / "scripts/tuf_client", "--metadata-dir", str(setup.metadata), *arguments],
            capture_output=True, text=True, check=False, env={**os.environ, "VENV": sys.prefix},
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert bool(done.stderr) == bool(status)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(65_536))
    except OSError:
        pass


def endless_error(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(503)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(65_536))
    except OSError:
        pass


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/elsewhere")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def cut_short(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"only this")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "error"),
    [(endless, DownloadLengthMismatchError), (endless_error, DownloadHTTPError), (redirect, DownloadHTTPError),
     (cut_short, DownloadError)],
)  # fmt: skip
def test_servers_that_misbehave(server: Server, answer: Any, error: type[Exception]) -> None:
    server.answer = answer
    with pytest.raises(error):
        plain_http.PlainHttpFetcher().download_bytes(f"{server.url}/timestamp.json", 100_000)


def test_a_byte_now_and_then_is_too_slow(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is faked to be a minute later with each look, so this takes none."""
    server.answer = endless
    minutes = itertools.count(0, 60_000)
    monkeypatch.setattr(plain_http, "monotonic_ms", lambda: next(minutes))
    with pytest.raises(SlowRetrievalError, match=f"longer than {limits.tuf_fetch_s_max} s"):
        plain_http.PlainHttpFetcher().download_bytes(f"{server.url}/timestamp.json", 10**9)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "/etc/passwd", ""])
def test_only_http(url: str) -> None:
    with pytest.raises(DownloadError):
        plain_http.PlainHttpFetcher().download_bytes(url, 100)
