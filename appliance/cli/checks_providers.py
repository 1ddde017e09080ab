"""What `appliance doctor` finds out about ONNX Runtime's execution providers, by the files of its package alone.

Nothing is loaded: the doctor's process stays free of native libraries. Whether a provider works on this machine shows when
a model is loaded; the daemon's log then says what was chosen and why not the others.
"""

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from appliance.cli.checks import Check
from appliance.config import Config

# The packages that hold the module `onnxruntime`; two of them overwrite each other's files.
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
_ADVICE = {"tensorrt": "onnxruntime-gpu", "cuda": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}


def check_providers(config: Config, folder: Path | None = None, installed: list[str] | None = None) -> Iterator[Check]:
    """One line: what is there, and which of the configuration's wishes are not.

    ``folder`` is onnxruntime's, ``installed`` which of its packages are; both are found when not given.
    """
    folder = folder or _folder()
    packages = [name for name in _PACKAGES if _installed(name)] if installed is None else installed
    if folder is None or not packages:
        return  # check_libraries tells that it is missing
    if len(packages) > 1:
        yield Check(
            "providers",
            "bad",
            f"{' and '.join(packages)} are installed together, and each overwrites the other's files",
            f"remove them all, and install one of them again: {packages[-1]}",
        )
        return
    there = [name for name in ("tensorrt", "cuda", "openvino") if _library(folder, name).exists()]
    missing = [name for name in config.engines.providers if name in _ADVICE and name not in there]
    found = f"ONNX models can run on {', '.join([*there, 'cpu'])}"
    if missing:
        needed = dict.fromkeys(_ADVICE[name] for name in missing)
        found += f"; {', '.join(missing)} would need {' or '.join(needed)}"
    yield Check("providers", "ok", found)


def _library(folder: Path, provider: str) -> Path:
    return folder / "capi" / f"libonnxruntime_providers_{provider}.so"


def _folder() -> Path | None:
    spec = importlib.util.find_spec("onnxruntime")
    return Path(spec.origin).parent if spec and spec.origin else None


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
