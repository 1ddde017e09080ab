"""scripts/bench_pull: an artefact out of an OCI image layout, by our client and by `skopeo copy`, in turns."""

import argparse
import contextlib
import dataclasses
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from appliance.registry.sources.layout_target import LayoutTarget
from appliance.store import manifest
from appliance.store.manifest import Descriptor, Manifest
from bench import command
from bench.target import BenchError

REPOSITORY, TAG = "bench/models/large", "1.0.0"
_PIECE_BYTES = 1_000_000
_LOOK_SECONDS = 0.005
_SCRIPTS = Path(__file__).resolve().parents[1]
EXAMPLES = """examples:
  # 200 MB in four files, five rounds
  scripts/bench_pull
  # one large file, a disk of its own
  scripts/bench_pull --files 1 --mb 1000 --folder /mnt/card

Each pull is a process of its own into an empty folder, timed from start to end, both ways alike; rss_mb is the most memory
that it held. mb_per_s: 10^6 bytes of the files a second. synced_mb_per_s: the same when the time until sync -f of the
folder has returned counts too, so that a way which leaves its bytes to the kernel gains nothing by it. The layout is
in the page cache for both. What it says is nothing about a registry over HTTP: there is no network in it.
The exit status is 2 when nothing could be measured.
"""


@dataclasses.dataclass(frozen=True)
class Round:
    """One pull."""

    mb_per_s: float
    synced_mb_per_s: float
    rss_mb: float


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_pull",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--mb", type=int, default=200, metavar="N", help="of the artefact, 10^6 bytes (default: 200)")
    made.add_argument("--files", type=int, default=4, metavar="N", help="that it consists of (default: 4)")
    made.add_argument("--parallel", type=int, default=4, metavar="N", help="of our downloads (default: 4)")
    made.add_argument("--rounds", type=int, default=5, help="figures are the medians of these (default: 5)")
    made.add_argument("--folder", type=Path, metavar="DIR", help="where both write (default: a temporary folder)")
    made.add_argument("--json", action="store_true", help="each round, on standard output")
    return made


def make_artefact(layout: Path, files: int, mb: int) -> int:
    """Random files in a layout; their bytes together."""
    target = LayoutTarget(layout)
    target.put_blob(REPOSITORY, manifest.digest_of(b"{}"), 2, lambda: (b"{}",))
    layers = []
    for number in range(files):
        pieces = partial(_pieces, number, max(1, mb // files))
        digest, size = manifest.new_sha256(), 0
        for piece in pieces():
            digest.update(piece)
            size += len(piece)
        layer = Descriptor(
            manifest.WEIGHT_TYPE,
            f"sha256:{digest.hexdigest()}",
            size,
            annotations={manifest.FILE_PATH: f"part-{number}"},
        )
        target.put_blob(REPOSITORY, layer.digest, layer.size, pieces)
        layers.append(layer)
    config = Descriptor(manifest.CONFIG_TYPE, manifest.digest_of(b"{}"), 2)
    made = Manifest(manifest.MANIFEST_TYPE, config, tuple(layers), manifest.ARTIFACT_TYPE, schema_version=2)
    target.put_manifest(REPOSITORY, TAG, manifest.MANIFEST_TYPE, manifest.canonical(made))
    return sum(layer.size for layer in layers)


def _pieces(seed: int, count: int) -> Iterator[bytes]:
    made = random.Random(seed)
    return (made.randbytes(_PIECE_BYTES) for _ in range(count))


def timed(arguments: list[str], folder: Path, total: int) -> Round:
    """Runs one pull into ``folder``, which is emptied first. Raises BenchError when it fails or brings less."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["sync", "-f", str(folder)], check=True)
    with tempfile.TemporaryFile() as told:
        began, most = time.monotonic(), 0
        process = subprocess.Popen(arguments, stdout=told, stderr=told, cwd=_SCRIPTS)
        while process.poll() is None:
            most = max(most, _most_memory(process.pid))
            time.sleep(_LOOK_SECONDS)
        seconds = time.monotonic() - began
        subprocess.run(["sync", "-f", str(folder)], check=True)
        synced = time.monotonic() - began
        if process.returncode:
            told.seek(0)
            raise BenchError(f"{arguments[0]} failed: {told.read()[-500:].decode(errors='replace')}")
    came = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if came < total:
        raise BenchError(f"{arguments[0]} brought {came} of {total} bytes")
    return Round(total / 1e6 / seconds, total / 1e6 / synced, most / 1e6)


def _most_memory(pid: int) -> int:
    """Bytes; 0 when it is gone. wait4's ru_maxrss also counts what this process held when it forked."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return 0


def median(rounds: list[Round]) -> Round:
    """Of each figure."""
    columns = zip(*map(dataclasses.astuple, rounds), strict=True)
    return Round(*(statistics.median(column) for column in columns))


def measure(ways: dict[str, Callable[[], Round]], rounds: int) -> Iterator[tuple[str, Round]]:
    """In turns, so that a machine that slows down meanwhile slows both."""
    for number in range(1, rounds + 1):
        for label, way in ways.items():
            found = way()
            print(f"  round {number}/{rounds}, {label}: {found.mb_per_s:,.0f} MB/s", file=sys.stderr)
            yield label, found


def report(found: dict[str, list[Round]]) -> None:
    """Medians and ratios."""
    names = [field.name for field in dataclasses.fields(Round)]
    print(f"{'':12}" + "".join(f"{name:>18}" for name in names))
    medians = {label: dataclasses.astuple(median(rounds)) for label, rounds in found.items()}
    for label, figures in medians.items():
        print(f"{label:12}" + "".join(f"{figure:18,.1f}" for figure in figures))
    ours, theirs = medians.values()
    print(f"{'ratio':12}" + "".join(f"{a / b:18.2f}" for a, b in zip(ours, theirs, strict=True)))


def run(args: argparse.Namespace) -> int:
    """The exit status."""
    command.check_above_zero(args, ["mb", "files", "parallel", "rounds"])
    skopeo = shutil.which("skopeo")
    if not skopeo:
        raise BenchError("skopeo is not installed (Debian: apt-get install skopeo)")
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        layout, folder = Path(made, "layout").resolve(), Path(made, "pulled").resolve()
        total = make_artefact(layout, args.files, args.mb)
        ours = [
            sys.executable,
            "-m",
            "bench.pull_client",
            str(layout),
            REPOSITORY,
            TAG,
            str(folder),
            str(args.parallel),
        ]
        theirs = [skopeo, "--insecure-policy", "copy", "--preserve-digests", f"oci:{layout}:{REPOSITORY}:{TAG}",
                  f"oci:{folder}:{TAG}"]  # fmt: skip
        ways = {"appliance": partial(timed, ours, folder, total), "skopeo": partial(timed, theirs, folder, total)}
        found: dict[str, list[Round]] = {label: [] for label in ways}
        for label, one in measure(ways, args.rounds):
            found[label].append(one)
    if args.json:
        print(json.dumps({label: [dataclasses.asdict(one) for one in rounds] for label, rounds in found.items()}))
    else:
        report(found)
    return 0


def main(argv: list[str]) -> int:
    """The exit status."""
    return command.answer("bench_pull", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
