"""What this machine has, in the words that releases use ("x86_64", "avx2", "cuda"): /proc/cpuinfo's and the kernel's."""

import platform
from pathlib import Path

# Of the processor's flags those that models are built for.
_FLAGS = {"avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve"}


def found(root: Path = Path("/")) -> frozenset[str]:
    """The words. A device that the kernel has a driver for counts; whether a runtime can use it says its provider."""
    words = {platform.machine()} | (_flags(root / "proc/cpuinfo") & _FLAGS)
    if (root / "dev/nvidiactl").exists():
        words.add("cuda")
    return frozenset(words)


def _flags(path: Path) -> set[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return set()
    rows = (line.partition(":") for line in lines)
    return next((set(value.split()) for key, _, value in rows if key.strip() in ("flags", "Features")), set())
