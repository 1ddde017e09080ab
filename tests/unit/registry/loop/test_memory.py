"""What the sync process remembers: durable, bounded, and whole or set aside."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.osutil import faults
from appliance.registry.loop import hardware
from appliance.registry.loop.memory import Memory

FILE = "state/sync.json"


def test_it_survives(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert len(memory.device) == 32
    assert (memory.paused, memory.counter("press")) == (False, -1)
    memory.pause(True)
    memory.ran("press", 7)
    memory.ran("press", 3)
    memory.ran("vad", 0)
    again = Memory(tmp_path)
    assert (again.device, again.paused) == (memory.device, True)
    assert [again.counter(line) for line in ("press", "vad", "other")] == [7, 0, -1]
    assert Memory(tmp_path / "other").device != memory.device


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 2, "device": "x"}',
        b'{"format": 1, "device": ""}',
        b'{"format": 1}',
        bytes(5 << 20),
    ],
)
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / FILE).write_bytes(data)
    assert Memory(tmp_path).device
    assert (tmp_path / f"{FILE}.broken").read_bytes() == data
    assert json.loads((tmp_path / FILE).read_text())["format"] == 1


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "folder"])
def test_a_disk_that_fails_keeps_what_was(tmp_path: Path, step: str) -> None:
    memory = Memory(tmp_path)
    memory.ran("press", 1)
    faults.arm(f"sync.memory.{step}=eio")
    try:
        with pytest.raises(OSError, match=r"sync\.memory"):
            memory.ran("press", 2)
    finally:
        faults.arm("")
    assert memory.counter("press") == 1
    memory.ran("press", 2)
    assert Memory(tmp_path).counter("press") == 2


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "folder"])
def test_a_kill_leaves_old_or_new(tmp_path: Path, step: str) -> None:
    Memory(tmp_path).ran("press", 1)
    code = "import sys, pathlib; from appliance.registry.loop.memory import Memory; Memory(pathlib.Path(sys.argv[1])).ran('press', 2)"
    environment = {"APPLIANCE_FAULTS": f"sync.memory.{step}=kill"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, timeout=60, check=False)
    assert done.returncode == -9
    assert Memory(tmp_path).counter("press") in (1, 2)


@pytest.mark.parametrize(
    ("cpuinfo", "words"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx avx2 sse\nflags\t\t: other\n", {"avx", "avx2"}),
        ("Features\t: fp asimd\n", {"asimd"}),
        ("", set()),
    ],
)
def test_words_of_the_machine(tmp_path: Path, cpuinfo: str, words: set[str]) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    (machine,) = hardware.found(tmp_path) - words
    assert hardware.found(tmp_path) == {machine} | words
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert hardware.found(tmp_path) == {machine, "cuda"} | words
    assert hardware.found(tmp_path / "none") == {machine}
