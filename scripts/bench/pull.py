"""scripts/bench_pull: an artefact out of a layout or a registry, by our client and by `skopeo copy`, in turns."""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import command
from bench.pull_places import KINDS, REPOSITORY, TAG, Place, serving
from bench.target import BenchError

_LOOK_SECONDS = 0.005
_SCRIPTS = Path(__file__).resolve().parents[1]
EXAMPLES = """examples:
  # 200 MB in four files from a layout, and from docker-registry over HTTP and HTTPS, five rounds
  scripts/bench_pull
  # one large file and one small one over HTTPS, on a disk of its own
  scripts/bench_pull --from https --shapes 1x1000 1x20 --folder /mnt/card

Each pull is a process of its own into an empty folder, timed from start to end, both ways alike: of ours, a tenth of a
second is the interpreter's start, which the sync process has behind it. rss_mb is the most memory that it held. mb_per_s:
10^6 bytes of the files a second. synced_mb_per_s: the same when the time until sync -f of the folder has returned counts
too, so that a way which leaves its bytes to the kernel gains nothing by it (both sync each blob). What is pulled is in the page
cache for both, and the registry runs on the same machine: it takes its share of the processors.
The idle poll is one refresh of the trust that finds nothing new, over a new connection: its bytes are those of both
directions, with all heads and handshakes.
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
    made.add_argument(
        "--from", dest="kinds", nargs="+", choices=KINDS, default=list(KINDS), help="where it is (default: all three)"
    )
    made.add_argument(
        "--shapes",
        type=shape,
        nargs="+",
        default=[(4, 200)],
        metavar="FILESxMB",
        help="files of the artefact, and 10^6 bytes of all together (default: 4x200)",
    )
    made.add_argument("--parallel", type=int, default=4, metavar="N", help="of our downloads (default: 4)")
    made.add_argument("--rounds", type=int, default=5, help="figures are the medians of these (default: 5)")
    made.add_argument("--folder", type=Path, metavar="DIR", help="where both write (default: a temporary folder)")
    made.add_argument("--json", action="store_true", help="each round, on standard output")
    return made


def shape(text: str) -> tuple[int, int]:
    """FILESxMB."""
    files, _, mb = text.partition("x")
    if not (files.isdecimal() and mb.isdecimal() and 0 < int(files) <= int(mb)):
        raise argparse.ArgumentTypeError(f"{text!r} is not FILESxMB, such as 4x200, of at least 1 MB a file")
    return int(files), int(mb)


def timed(arguments: list[str], folder: Path, total: int) -> Round:
    """Runs one pull into ``folder``, which is emptied first. Raises BenchError when it fails or brings less."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["sync", "-f", str(folder)], check=True)
    # The registry is on this machine: no proxy leads there.
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    with tempfile.TemporaryFile() as told:
        began, most = time.monotonic(), 0
        process = subprocess.Popen(arguments, stdout=told, stderr=told, cwd=_SCRIPTS, env=environment)
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


def report(title: str, found: dict[str, list[Round]]) -> None:
    """Medians and ratios."""
    names = [field.name for field in dataclasses.fields(Round)]
    print(f"{title:12}" + "".join(f"{name:>18}" for name in names))
    medians = {label: dataclasses.astuple(median(rounds)) for label, rounds in found.items()}
    for label, figures in medians.items():
        print(f"{label:12}" + "".join(f"{figure:18,.1f}" for figure in figures))
    ours, theirs = medians.values()
    print(f"{'ratio':12}" + "".join(f"{a / b:18.2f}" for a, b in zip(ours, theirs, strict=True)))


def compare(place: Place, folder: Path, args: argparse.Namespace) -> dict[str, list[Round]]:
    """Both ways' rounds."""
    arguments = [*place.ours, REPOSITORY, TAG, str(folder), str(args.parallel)]
    ours = [sys.executable, "-m", "bench.pull_client", *arguments]
    theirs = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", *place.theirs, f"oci:{folder}:{TAG}"]
    ways = {
        "appliance": partial(timed, ours, folder, place.total),
        "skopeo": partial(timed, theirs, folder, place.total),
    }
    found: dict[str, list[Round]] = {label: [] for label in ways}
    for label, one in measure(ways, args.rounds):
        found[label].append(one)
    return found


def idle_poll(kind: str, folder: Path) -> None:
    """Prints what one costs."""
    # The tests' own helpers, as in pull_places.
    from tests.support.idle_polls import against_docker_registry

    with against_docker_registry(folder, secure=kind == "https") as polls:
        polls.poll()
        idle = polls.poll(anew=True)
    requests = f"{idle.requests} requests, " if idle.requests else ""
    print(f"{kind}: an idle poll: {requests}{idle.bytes} bytes")


def run(args: argparse.Namespace) -> int:
    """The exit status."""
    command.check_above_zero(args, ["parallel", "rounds"])
    for program in ["skopeo", *(["docker-registry"] if args.kinds != ["layout"] else [])]:
        if not shutil.which(program):
            raise BenchError(f"{program} is not installed (Debian: apt-get install {program})")
    told = []
    for kind, (files, mb) in itertools.product(args.kinds, args.shapes):
        with tempfile.TemporaryDirectory(dir=args.folder) as made:
            folder = Path(made).resolve()
            with serving(kind, folder, files, mb) as place:
                found = compare(place, folder / "pulled", args)
        if args.json:
            rounds = {label: [dataclasses.asdict(one) for one in each] for label, each in found.items()}
            told.append({"from": kind, "files": files, "mb": mb, **rounds})
        else:
            report(f"{kind} {files}x{mb}", found)
    if args.json:
        print(json.dumps(told))
        return 0
    for kind in args.kinds:
        if kind != "layout":
            with tempfile.TemporaryDirectory(dir=args.folder) as made:
                idle_poll(kind, Path(made))
    return 0


def main(argv: list[str]) -> int:
    """The exit status."""
    return command.answer("bench_pull", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
