"""`appliance models ...` as an operator uses it, and model folders that are wrong: each gets a clear refusal."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_process import APPLIANCE, Daemon
from onnx import TensorProto, helper
from running import add, running, versions
from tiny_gguf import write_tiny_gguf
from traffic import call

FakeFolder = Callable[..., Path]
DemoFolder = Callable[[str], Path]

GOLDEN = """
[[golden]]
name = "echo"
[golden.inputs.x]
datatype = "FP32"
data = [1.0, 2.0]
[golden.outputs.out_x]
datatype = "FP32"
data = [{expected}, 2.0]
"""

TOML = """
name = "{name}"
version = "1.0.0"
engine = "{engine}"
files = [{{ path = "{file}" }}]
[card]
licence = "MIT"
source = "made for a test"
intended_use = "tests"
limits = "none"
"""


@pytest.fixture(scope="module")
def box() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


def refused(box: Daemon, code: int, *arguments: str | Path) -> str:
    """What a command says that must end with ``code``."""
    done = box.cli(*map(str, arguments), check=False)
    assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    assert str(box.state) not in done.stderr  # never a path of the daemon
    return " ".join(done.stderr.split())


# --- the commands ----------------------------------------------------------------------------------------------------


def test_the_life_of_a_model(box: Daemon, fake_folder: FakeFolder) -> None:
    golden = GOLDEN.format(expected=1.0)
    first = box.json("models", "add", str(fake_folder("tour", more_toml=golden)))
    assert (first["golden_passed"], first["status"]["state"], first["status"]["active"]) == (1, "ready", True)
    box.cli("models", "add", str(fake_folder("tour", "1.1.0", constant=5)), "--no-activate")
    assert versions(box, "tour") == {"1.0.0": ("ready", True), "1.1.0": ("stored", False)}
    rows = [row for row in box.json("models", "list")["models"] if row["name"] == "tour"]
    assert [(r["version"], r["state"], r["engine"]) for r in rows] == [
        ("1.0.0", "ready", "fake"),
        ("1.1.0", "stored", "fake"),
    ]
    assert "1.0.0*" in box.cli("models", "list").stdout
    assert box.json("models", "show", "tour")["spec"]["version"] == "1.0.0"
    assert box.json("models", "show", "tour", "1.1.0")["status"]["state"] == "stored"
    box.cli("models", "activate", "tour", "1.1.0", "--keep-previous")
    assert versions(box, "tour") == {"1.0.0": ("ready", False), "1.1.0": ("ready", True)}
    assert "deactivate it first" in refused(box, 7, "models", "remove", "tour", "1.0.0", "--yes")
    box.cli("models", "deactivate", "tour")
    assert versions(box, "tour") == {"1.0.0": ("stored", False), "1.1.0": ("stored", False)}
    box.cli("models", "remove", "tour", "1.0.0", "--yes")
    box.json("models", "remove", "tour", "1.1.0", "--yes")
    assert versions(box, "tour") == {}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "nothing"), 3, "'nothing' is not stored"),
        (("activate", "nothing"), 3, "'nothing' is not stored"),
        (("deactivate", "nothing"), 3, "'nothing' is not stored"),
        (("remove", "nothing", "1.0.0", "--yes"), 3, "'nothing'"),
        (("remove", "nothing", "1.0.0"), 2, "--yes"),
        (("add", "/nowhere"), 6, "/nowhere is not a folder"),
    ],
)
def test_commands_in_vain(box: Daemon, arguments: tuple[str, ...], code: int, words: str) -> None:
    assert words in refused(box, code, "models", *arguments)


def test_no_daemon(short_path: Path) -> None:
    command = [*APPLIANCE, "models", "list", "--socket", str(short_path / "none.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4


# --- what a version must prove ---------------------------------------------------------------------------------------


def test_a_golden_test_that_fails_changes_nothing(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("proof", "1.0.0", constant=10))
    before = box.model("proof").pid
    message = refused(box, 7, "models", "add", fake_folder("proof", "2.0.0", more_toml=GOLDEN.format(expected=7.0)))
    assert 'golden test "echo"' in message or "golden test 'echo'" in message
    assert versions(box, "proof") == {"1.0.0": ("ready", True)}
    assert box.model("proof").pid == before
    assert call(box.address, "proof").as_numpy("out_x")[0] == 11.0
    assert list((box.state / "incoming").iterdir()) == []


def test_a_version_that_fails_again_later_stays_stored(box: Daemon, fake_folder: FakeFolder) -> None:
    """A disk that lost a file of it, say. The active version stays active."""
    add(box, fake_folder("later", "1.0.0", constant=10))
    add(box, fake_folder("later", "2.0.0", constant=20), no_activate=True)
    scripts = [p for p in (box.state / "models").rglob("model.json") if '"constant": 20' in p.read_text()]
    scripts[0].write_text("no script")
    assert "was not activated" in refused(box, 6, "models", "activate", "later", "2.0.0")
    assert versions(box, "later") == {"1.0.0": ("ready", True), "2.0.0": ("failed", False)}
    assert call(box.address, "later").as_numpy("out_x")[0] == 11.0


def test_the_same_version_with_other_content(box: Daemon, fake_folder: FakeFolder) -> None:
    folder = fake_folder("fixed", constant=1)
    add(box, folder)
    box.cli("models", "add", str(folder))  # the same again: nothing to do
    (folder / "model.json").write_text('{"constant": 2}')
    assert "raise the version number" in refused(box, 7, "models", "add", folder)
    assert call(box.address, "fixed").as_numpy("out_x")[0] == 2.0


def test_a_newer_version_that_cannot_load(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("upgrade", "1.0.0"))
    bad = fake_folder("upgrade", "2.0.0", refuse={"reason": "MODEL_CORRUPT", "message": "told not to load"})
    assert "told not to load" in refused(box, 6, "models", "add", bad)
    assert versions(box, "upgrade") == {"1.0.0": ("ready", True)}


# --- folders that are wrong ------------------------------------------------------------------------------------------


def folder_of(root: Path, name: str, engine: str, file: str, data: bytes) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "model.toml").write_text(TOML.format(name=name, engine=engine, file=file))
    (folder / file).write_bytes(data)
    return folder


def onnx_with_external_data(location: str) -> bytes:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4], bytes(16), raw=True)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [4])], [value("y", TensorProto.FLOAT, [4])]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", *ends, [weights])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString())


def gguf(tmp_path: Path) -> bytes:
    return write_tiny_gguf(tmp_path / "tiny.gguf").read_bytes()


def test_onnx_files_that_are_no_models(box: Daemon, tmp_path: Path, demo_folder: DemoFolder) -> None:
    good = (demo_folder("breast-cancer") / "model.onnx").read_bytes()
    cases = {
        "cut": good[: len(good) // 2],
        "twisted": good[:100] + bytes(100) + good[200:],
        "noise": bytes(range(256)) * 40,
        "empty": b"",
    }
    for name, data in cases.items():
        message = refused(box, 6, "models", "add", folder_of(tmp_path, name, "onnx", "m.onnx", data))
        assert "m.onnx" in message, message
        assert versions(box, name) == {}


@pytest.mark.parametrize("location", ["../../../../etc/hostname", "/etc/hostname", "a/../../secret"])
def test_an_onnx_file_that_reaches_out_of_its_folder(box: Daemon, tmp_path: Path, location: str) -> None:
    folder = folder_of(tmp_path, "reach", "onnx", "m.onnx", onnx_with_external_data(location))
    assert "outside the model's folder" in refused(box, 6, "models", "add", folder)
    assert versions(box, "reach") == {}


def test_gguf_files_that_are_no_models(box: Daemon, tmp_path: Path) -> None:
    good = gguf(tmp_path)
    huge = (2**60).to_bytes(8, "little")
    cases = {
        "cut-gguf": (good[:-1000], "ends"),
        "cut-header": (good[:200], "cannot hold them"),
        "many-tensors": (good[:8] + huge + good[16:], "claims 1,152,921,504,606,846,976 tensors"),
        "many-keys": (good[:16] + huge + good[24:], "claims 1,152,921,504,606,846,976 key-value pairs"),
        "no-gguf": (b"GGML" + good[4:], "GGUF"),
    }
    for name, (data, words) in cases.items():
        message = refused(box, 6, "models", "add", folder_of(tmp_path, name, "llama", "m.gguf", data))
        assert words in message, message
        assert versions(box, name) == {}
    good_folder = folder_of(tmp_path, "good-gguf", "llama", "m.gguf", good)
    box.cli("models", "add", str(good_folder))
    assert versions(box, "good-gguf") == {"1.0.0": ("ready", True)}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lisence = 1", "licence"),
        ("[limit]\nqueue_max = 3", "did you mean limits"),
        ("[limits]\nmax_quue = 3", "did you mean max_queue"),
        ("[limits]\nmax_queue = 'many'", "max_queue"),
        ("[broken", "not valid TOML"),
    ],
)
def test_a_mistake_in_model_toml(box: Daemon, fake_folder: FakeFolder, line: str, words: str) -> None:
    message = refused(box, 6, "models", "add", fake_folder("typo", more_toml=f"\n{line}\n"))
    assert words in message, message
    assert "model.toml" in message


def test_a_file_that_is_missing_or_elsewhere(box: Daemon, fake_folder: FakeFolder, tmp_path: Path) -> None:
    folder = fake_folder("holes")
    (folder / "model.json").unlink()
    assert "model.json is missing" in refused(box, 6, "models", "add", folder)
    (folder / "model.json").symlink_to("/etc/hostname")
    assert "outside of" in refused(box, 6, "models", "add", folder)
    shutil.rmtree(folder)
    folder.mkdir()
    assert "has no model.toml" in refused(box, 6, "models", "add", folder)
