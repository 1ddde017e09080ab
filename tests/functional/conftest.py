"""Fixtures of the functional tests: the real daemon, real models, fake models where a test needs them to misbehave."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import client_models
import pytest
from daemon_process import Daemon

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
FAKE_TOML = """
name = "{name}"
version = "{version}"
engine = "fake"

[[files]]
path = "model.json"

[card]
licence = "MIT"
source = "made for a test"
intended_use = "tests"
limits = "none"
"""


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Says what is wrong where the import of tritonclient would only say "duplicate symbol" (see daemon_process.py)."""
    if isinstance(collector, pytest.Module) and "appliance.pb.inference.grpc_service_pb2" in sys.modules:
        raise pytest.UsageError("tests/functional needs a pytest of its own, as in scripts/test")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ia-") as name:
        yield Path(name)


@pytest.fixture
def daemon(short_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon that listens, without models. Its log is shown when the test fails."""
    running = Daemon(short_path)
    try:
        yield running.ready()
    finally:
        running.stop()
        print("\n".join(running.log))


@pytest.fixture(scope="session")
def shared_daemon() -> Iterator[Daemon]:
    """One daemon with all demo models, for tests that only ask."""
    with tempfile.TemporaryDirectory(prefix="ia-") as name:
        running = Daemon(Path(name)).ready()
        try:
            for model in ("breast-cancer", "diabetes", "silero-vad", "smollm2"):
                running.add(demo_model(model))
            yield running
        finally:
            running.stop()
            print("\n".join(running.log))


@pytest.fixture(scope="session")
def client_daemon() -> Iterator[Daemon]:
    """One daemon with the models of client_models.py and a message bound of 4 MiB, for tests that only ask.

    "echo", "pair" 1.0.0 and 2.0.0 (active), "strings"; "slow" takes 400 ms a call; "words" repeats its
    prompt, 20 ms a word, and takes two calls at once. With weights: "talk" says bytes at random and embeds; "says" goes on
    from "h" with "elo wr\u00fcd." and ends its turn; "endless" says a to z again and again, up to 8,192 tokens.
    """
    with tempfile.TemporaryDirectory(prefix="ia-") as name, tempfile.TemporaryDirectory() as folders:
        running = Daemon(Path(name), config="[server]\nmax_message_mib = 4\n").ready()
        root = Path(folders)
        try:
            running.add(client_models.echo(root))
            running.add(client_models.pair(root, "1.0.0", constant=0))
            running.add(client_models.pair(root, "2.0.0", constant=100), "--keep-previous")
            running.add(client_models.strings(root))
            running.add(client_models.fake(root, "slow", delay_ms=400))
            few = "[limits]\nmax_queue = 2\n"
            running.add(client_models.fake(root, "words", more_toml=few, kind="language", delay_ms=20))
            running.add(client_models.tiny(root, "talk", 'pooling = "mean"'))
            running.add(client_models.tiny(root, "says", script="helo wr\u00fcd.".encode()))
            running.add(client_models.tiny(root, "endless", script=LETTERS, loop=True, context=8192))
            yield running
        finally:
            running.stop()
            print("\n".join(running.log))


def demo_model(name: str) -> Path:
    """A folder that scripts/make_models made."""
    root = os.environ.get("APPLIANCE_TEST_MODELS")
    if not root or not (Path(root) / name / "model.toml").exists():
        pytest.fail(
            f"no demo model {name}: run `scripts/test`, or set APPLIANCE_TEST_MODELS to a folder of demo models"
        )
    return Path(root) / name


@pytest.fixture(scope="session")
def demo_folder() -> Callable[[str], Path]:
    """``demo_model``, for test files: a conftest cannot be imported from."""
    return demo_model


@pytest.fixture
def fake_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model folder whose engine follows a script (appliance/engine/fake/script.py)."""

    def make(name: str = "fake", version: str = "1.0.0", more_toml: str = "", **script: Any) -> Path:
        folder = tmp_path / f"{name}-{version}"
        folder.mkdir()
        (folder / "model.toml").write_text(FAKE_TOML.format(name=name, version=version) + more_toml)
        (folder / "model.json").write_text(json.dumps(script))
        return folder

    return make
