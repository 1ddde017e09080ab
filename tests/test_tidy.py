"""The rules of the house that a program can hold: who imports whom, how long a file is, and what no file may say."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import events

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "appliance"

# Down only. A package may import those of its own row, and every leaf. `pb` is for `serve` and `cli` alone.
LEAVES = {
    "__init__", "address", "answers", "calls", "clock", "comparison", "config", "config_file", "config_rules", "control", "core_plan", "credentials", "errors", "events", "frames", "limits", "logs", "message",
    "model_spec", "questions", "registry_names", "registry_rules", "said", "semver", "store_questions", "sync_questions", "tensor_heads", "types", "versions", "windows",
}  # fmt: skip
MAY_IMPORT = {
    "osutil": set(),
    "store": {"osutil"},
    "registry": {"store", "osutil"},
    "publish": {"registry", "store", "osutil"},
    "engine": {"osutil"},
    "worker": {"engine", "osutil"},
    "serve": {"worker", "pb", "osutil"},
    "state": {"osutil"},
    "setup": {"osutil"},
    "cli": {"pb", "daemon", "publish", "setup", "state", "osutil"},
    "daemon": {"worker", "state", "osutil"},
}
# Only a process that needs a native library loads it: the engine's, the publisher's; numpy also where a client reads arrays.
NATIVE = {"onnxruntime", "llama_cpp", "numpy"}
MAY_IMPORT_NATIVE = {"engine", "publish"}
NUMPY_ALSO = {"cli/infer.py", "cli/arrays.py"}
LINES_MAX = 300


def sources() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "pb" not in p.relative_to(PACKAGE).parts)


def imports(path: Path) -> set[str]:
    """Absolute names of all that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            base = node.module or ""
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", sources(), ids=place)
def test_imports_point_down(path: Path) -> None:
    package = place(path).split("/")[0].removesuffix(".py")
    allowed = LEAVES | ({package} | MAY_IMPORT[package] if package in MAY_IMPORT else set())
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "appliance" and len(parts) > 1:
            target = parts[1] if parts[1] != "__version__" else "__init__"
            assert target in allowed, f"{place(path)} imports {name}"


@pytest.mark.parametrize("path", sources(), ids=place)
def test_native_libraries_stay_in_engines(path: Path) -> None:
    package = place(path).split("/")[0]
    if package in MAY_IMPORT_NATIVE:
        return
    native = {name.split(".")[0] for name in imports(path)} & NATIVE
    if place(path) in NUMPY_ALSO:
        native -= {"numpy"}
    assert not native, f"{place(path)} imports {native}"


@pytest.mark.parametrize("path", sources(), ids=place)
def test_a_file_has_one_idea(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_MAX, f"{place(path)} has {lines} lines, at most {LINES_MAX}"


@pytest.mark.parametrize(
    "module", ["appliance.daemon.main", "appliance.serve.front_end", "appliance.registry.sync_process"]
)
def test_small_processes_load_no_native_library(module: str) -> None:
    """What counts is what is loaded, not what is written: a dependency may import numpy by itself."""
    code = f"import sys, {module}; print(*({NATIVE!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_script_says_what_it_does() -> None:
    for script in sorted((ROOT / "scripts").iterdir()):
        if script.is_file():
            first, second = script.read_text().splitlines()[:2]
            assert first.startswith("#!"), script.name
            assert second.startswith(("# ", '"""')), script.name


def log_calls(path: Path) -> Iterator[ast.Call]:
    """Calls of the file's logger at the level of warnings and above; of a level that is chosen at run time too."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "_log"
            and node.func.attr in ("warning", "error", "exception", "critical", "log")
        ):
            yield node


# llama.cpp's own lines: no two are alike, and what follows from them is told by ours.
WITHOUT_EVENT = {"engine/llama/native.py"}


@pytest.mark.parametrize("path", sources(), ids=place)
def test_a_warning_is_an_event(path: Path) -> None:
    """Each names a kind of event (appliance/events), directly or by what it put into ``facts`` before."""
    if place(path) in WITHOUT_EVENT:
        assert list(log_calls(path)), "an exception that isn't needed"
        return
    for call in log_calls(path):
        extra = next((word.value for word in call.keywords if word.arg == "extra"), None)
        assert extra is not None, f"{place(path)}:{call.lineno} names no event"
        text = ast.unparse(extra)
        named = re.match(r"(events\.[A-Z_]+|_?[A-Z]+\.get\(.*\)|refused)\.of\(", text)
        # What chooses between two kinds is given one of them.
        named = named or re.match(r"[a-z_.]+\(.*events\.[A-Z_]+\)$", text)
        assert named or text in ("facts", "died", "hung"), f"{place(path)}:{call.lineno}: {text}"


def test_every_event_happens() -> None:
    used = {
        name
        for path in sources()
        if path.parent.name != "events"
        for name in re.findall(r"\bevents\.([A-Z_]+)\b", path.read_text())
    }
    assert used == {kind.name.upper().replace(".", "_") for kind in events.ALL}
