"""Native code for every x86-64: what every processor runs has nothing newer in it; the variants lie beside it."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.packages

LIB = "usr/lib/inference-appliance/lib/python3.11/site-packages/llama_cpp/lib"
# The widest registers that a variant may use: xmm has 128 bits (every x86-64), ymm 256 (AVX), zmm 512 (AVX-512).
VARIANTS = {
    "x64": "xmm",
    "sandybridge": "ymm",
    "haswell": "ymm",
    "alderlake": "ymm",
    "skylakex": "zmm",
    "cascadelake": "zmm",
    "sapphirerapids": "zmm",
}
BASE = ("libllama.so", "libggml.so", "libggml-base.so")
# What loads the variant, and computes a little with a pool of its threads.
PROBE = """
import os
from appliance.engine.llama.native import start_backend
from appliance.engine.llama.threadpool import _pool
start_backend()
assert _pool(2)
loaded = {line.split("/")[-1].strip() for line in open("/proc/self/maps") if "libggml-cpu-" in line}
print(*loaded)
"""


def registers(library: Path) -> set[str]:
    """Which kinds of vector registers its instructions name."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed (Debian: binutils)")
    with subprocess.Popen(
        ["objdump", "-d", "--no-show-raw-insn", library], stdout=subprocess.PIPE, text=True
    ) as process:
        return set(_named(process.stdout or ()))


def _named(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield from (kind for kind in ("xmm", "ymm", "zmm") if kind in line)


def test_all_variants_are_there(tree: Path) -> None:
    assert {path.name for path in (tree / LIB).glob("libggml-cpu-*")} == {f"libggml-cpu-{name}.so" for name in VARIANTS}
    assert not (tree / LIB / "libggml-cpu.so").exists()


@pytest.mark.parametrize("name", BASE)
def test_what_every_processor_loads_needs_no_avx(tree: Path, name: str) -> None:
    assert registers(tree / LIB / name) == {"xmm"}


@pytest.mark.parametrize(("name", "widest"), VARIANTS.items())
def test_a_variant_goes_as_far_as_its_name_says(tree: Path, name: str, widest: str) -> None:
    found = registers(tree / LIB / f"libggml-cpu-{name}.so")
    assert found & {"ymm", "zmm"} == {"xmm": set(), "ymm": {"ymm"}, "zmm": {"ymm", "zmm"}}[widest]


def test_exactly_one_variant_stays_loaded(tree: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("these packages are for x86-64")
    python = tree / "usr/lib/inference-appliance/bin/python3"
    done = subprocess.run([python, "-I", "-c", PROBE], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1
