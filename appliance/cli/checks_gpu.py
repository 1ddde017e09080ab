"""What `appliance doctor` finds out about NVIDIA GPUs, through the driver's own library (NVML)."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.cli import output
from appliance.cli.checks import Check


def check_gpus() -> Iterator[Check]:
    """A line for each GPU, or one that says why there is none. A machine without a GPU is a good machine."""
    try:
        import pynvml
    except ImportError:
        yield Check("gpu", "warn", "cannot look for GPUs: nvidia-ml-py is missing", "install the package again")
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        yield Check("gpu", "ok", "no NVIDIA driver on this machine: models run on the processor")
        return
    except pynvml.NVMLError as error:
        yield _refused(pynvml, error)
        return
    try:
        yield from _devices(pynvml)
    except pynvml.NVMLError as error:
        yield Check("gpu", "bad", f"the NVIDIA driver fails: {error}", "look for Xid in `dmesg`; restart the machine")
    finally:
        pynvml.nvmlShutdown()


def _refused(pynvml: Any, error: Exception) -> Check:
    """NVML is there but does not start."""
    advice = {
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "load it with `modprobe nvidia`, or remove its packages",
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver and library differ, as after an update: restart the machine",
        pynvml.NVML_ERROR_NO_PERMISSION: "give this user access to /dev/nvidia*",
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the driver is too old: update it",
    }
    number = getattr(error, "value", None)
    return Check("gpu", "warn", f"the NVIDIA driver does not start: {error}", advice.get(number, "see `nvidia-smi`"))


def _devices(pynvml: Any) -> Iterator[Check]:
    count = pynvml.nvmlDeviceGetCount()
    if count == 0:
        yield Check("gpu", "ok", "an NVIDIA driver, but no GPU: models run on the processor")
        return
    cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    driver = f"driver {pynvml.nvmlSystemGetDriverVersion()}, CUDA {cuda // 1000}.{cuda % 1000 // 10}"
    for index in range(count):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name = pynvml.nvmlDeviceGetName(handle)
        found = f"{name}, {output.size(memory.free)} of {output.size(memory.total)} free, {driver}"
        if memory.free < memory.total // 10:
            yield Check(f"gpu {index}", "warn", found, "nearly full: see `nvidia-smi` for who uses it")
        else:
            yield Check(f"gpu {index}", "ok", found)
    if not _llama_has_cuda():
        advice = "language models will run on the processor; install the package built with CUDA to use the GPU"
        yield Check("gpu", "warn", "llama.cpp is built without CUDA", advice)


def _llama_has_cuda() -> bool:
    """Whether the CUDA backend lies beside llama.cpp's library; nothing is loaded to find out."""
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    return folder is not None and any(folder.glob("libggml-cuda*"))
