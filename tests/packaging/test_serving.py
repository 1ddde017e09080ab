"""The package's own interpreter and libraries serve: what was cut away of them, nothing needs.

The real daemon out of the unpacked tree, with both engines, and its own command as the client.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import client_models
import pytest
from daemon_process import Daemon
from onnx_folders import onnx_folder, ragged

pytestmark = pytest.mark.packages

HOME = "usr/lib/inference-appliance"
RUN = "import sys; from appliance.cli.main import main; sys.exit(main())"


@pytest.fixture(scope="module")
def python(tree: Path) -> str:
    if not Path("/usr/bin/python3.11").exists():
        pytest.skip("no /usr/bin/python3.11: the package is for Debian 12's interpreter")
    return str(tree / HOME / "bin/python3")


@pytest.fixture(scope="module")
def daemon(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    models = tmp_path_factory.mktemp("models")
    with tempfile.TemporaryDirectory(prefix="ia-") as name:
        running = Daemon(Path(name), command=[python, "-I", "-c", RUN])
        try:
            running.ready()
            running.add(onnx_folder(models, "exponentials", ragged()))
            running.add(client_models.tiny(models, "poet", script=b"abcdef", loop=True))
            yield running
        finally:
            running.stop()
            print("\n".join(running.log))


def test_it_is_the_packages_own_code_that_runs(daemon: Daemon, tree: Path) -> None:
    maps = {
        line.split()[-1]
        for process in daemon.status().processes
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        if "site-packages" in line
    }
    assert maps
    assert all(path.startswith(str(tree)) for path in maps), maps


def test_an_onnx_model_answers(daemon: Daemon) -> None:
    answer = daemon.json("infer", "exponentials", "[[0, 0], [0, 0]]")
    assert answer["outputs"][0]["data"] == [[1, 1], [1, 1]]


def test_a_gguf_model_answers(daemon: Daemon) -> None:
    answer = daemon.json("chat", "poet", "a", "--temperature", "0", "--max-tokens", "12")
    # It says its script over and over; where it begins is the chat template's.
    assert len(answer["text"]) == 12
    assert "abcdef" in answer["text"]


def test_an_answer_is_held_to_a_schema(daemon: Daemon, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "boolean"}')
    answer = daemon.json("chat", "poet", "a", "--schema", str(schema), "--max-tokens", "8")
    assert answer["text"] in ("true", "false")


def test_what_an_operator_sees_is_drawn(daemon: Daemon, python: str) -> None:
    assert "exponentials" in daemon.cli("status").stdout
    assert "exponentials" in daemon.cli("models", "list").stdout
    done = subprocess.run([python, "-I", "-c", RUN, "models", "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout


def test_systemd_and_the_journal_can_be_spoken_to(python: str) -> None:
    done = subprocess.run([python, "-I", "-c", "import systemd.daemon, systemd.journal"], check=False)
    assert done.returncode == 0
