"""What `appliance doctor` finds out about the machine: processor, memory, disk, libraries. Each check only looks."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from appliance.cli import output
from appliance.config import Config

Level = Literal["ok", "warn", "bad"]

# What llama.cpp has own code paths for, on x86-64, in the order in which they matter; by their names in /proc/cpuinfo.
_X86_FEATURES = (
    *("avx", "avx2", "fma", "f16c", "bmi2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512vbmi", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"),
)
_X86_NEEDED = ("avx2", "fma", "f16c")
_ARM_FEATURES = ("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme")
_MIB = 1024 * 1024
_LIBRARIES = ("grpcio", "protobuf", "msgspec", "numpy", "onnxruntime", "llama-cpp-python", "jinja2", "nvidia-ml-py")
_ONNX_VARIANTS = ("onnxruntime-gpu", "onnxruntime-openvino")


class Check(NamedTuple):
    """One line of the doctor's report; ``advice`` says what to do when it isn't ok."""

    name: str
    level: Level
    found: str
    advice: str = ""


def check_machine(config: Config, root: Path = Path("/")) -> Iterator[Check]:
    """Processor, memory, disk and libraries; ``root`` is where /proc and /sys hang."""
    yield check_processor(root)
    yield check_cores(config, root)
    yield check_memory(root)
    yield check_disk(config)
    yield from check_libraries()


def check_processor(root: Path) -> Check:
    """Which vector instructions language models can use."""
    machine = platform.machine()
    flags = _cpu_flags(root)
    if machine not in ("x86_64", "AMD64"):
        known = [flag for flag in _ARM_FEATURES if flag in flags]
        return Check("processor", "ok", f"{machine}: {' '.join(known) or 'no vector features listed'}")
    known = [flag for flag in _X86_FEATURES if flag in flags]
    missing = [flag for flag in _X86_NEEDED if flag not in flags]
    if missing:
        return Check(
            "processor",
            "warn",
            f"{machine} without {', '.join(missing)}",
            "language models will be several times slower, or not start where the library was built for newer "
            "processors; in a virtual machine, let it see the host's processor",
        )
    return Check("processor", "ok", f"{machine}: {' '.join(known)}")


def check_cores(config: Config, root: Path) -> Check:
    """How many cores there are for us, by affinity and by the control group's quota."""
    usable = len(os.sched_getaffinity(0))
    quota = _cpu_quota(root)
    found = f"{usable} of {os.cpu_count()} cores" + (f", quota of {quota:.3g}" if quota else "")
    cores = min(usable, quota or usable)
    wanted = max(config.engines.threads, 1)
    if wanted > cores:
        advice = f"engines.threads = {wanted} is more than there is: models get slower, not faster; lower it"
        return Check("cores", "warn", found, advice)
    if cores < 2:
        return Check("cores", "warn", found, "one core is shared by requests and models; give the daemon two or more")
    return Check("cores", "ok", found)


def check_memory(root: Path) -> Check:
    """What is available now, bounded by the control group."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        sizes = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":", 1) for line in lines)}
        total, available = sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return Check("memory", "warn", "cannot be read", "make /proc/meminfo readable for this user")
    found = f"{output.size(available)} of {output.size(total)} available"
    limit = _number(root / "sys/fs/cgroup/memory.max")
    if limit is not None:
        found += f", limited to {output.size(limit)}"
        available = min(available, limit)
    if available < 256 * _MIB:
        return Check("memory", "bad", found, "too little to serve any model: free some, or fit more")
    if available < 1024 * _MIB:
        return Check("memory", "warn", found, "enough for small models only")
    return Check("memory", "ok", found)


def check_disk(config: Config) -> Check:
    """Room for models where the state folder is or will be."""
    folder = config.state_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{output.size(free)} free for {folder}"
    if free < 512 * _MIB:
        return Check("disk", "bad", found, "remove unused versions (appliance models remove) or enlarge the disk")
    if free < 4096 * _MIB:
        return Check("disk", "warn", found, "a language model takes 0.5 to 5 GiB")
    return Check("disk", "ok", found)


def check_libraries() -> Iterator[Check]:
    """The versions installed; only their metadata is read."""
    versions = {name: _installed(name) for name in _LIBRARIES}
    if not versions.get("onnxruntime", "-"):
        # Each holds the module of the same name, for other hardware.
        versions["onnxruntime"] = next(filter(None, map(_installed, _ONNX_VARIANTS)), "")
    missing = [name for name, version in versions.items() if not version]
    found = [f"{name} {version}" for name, version in versions.items() if version]
    yield Check("libraries", "ok", ", ".join([f"Python {platform.python_version()}", *found]))
    if missing:
        yield Check("libraries", "bad", f"{', '.join(missing)} not installed", "install the appliance's package again")
    libc, version = platform.libc_ver()
    yield Check("system", "ok", f"Linux {platform.release()}, {libc or 'libc'} {version}")


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cpu_flags(root: Path) -> set[str]:
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return next((set(rest.split()) for name, _, rest in lines if name.strip() in ("flags", "Features")), set())


def _cpu_quota(root: Path) -> float | None:
    """Cores by the control group's ``cpu.max`` ("quota period" in microseconds, or "max period")."""
    try:
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
