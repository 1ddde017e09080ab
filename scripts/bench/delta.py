"""scripts/bench_delta: bytes and seconds of a delta update against a whole download, case by case."""

import argparse
import hashlib
import json
import random
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from appliance.registry.delta import chunking, index
from appliance.registry.loop import deltas
from appliance.registry.pull import artefact
from appliance.registry.pull.artefact import Missing, Places
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.release import Chunks, Release
from appliance.registry.sources.layout import LayoutBlob, LayoutSource
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor, digest_of
from bench import command

MIB = 1024 * 1024
EXAMPLES = """examples:
  scripts/bench_delta                          # 256 MiB, a line of 100 Mbit/s
  scripts/bench_delta --mib 64 --mbit 20 --rtt-ms 600

An update as the sync process brings it. moved_mib: bytes that came, the chunk index included. work_s and whole_work_s: measured, reading and hashing the seed
(first_s: when nothing is known of it yet), writing, syncing; the source is a folder. gain: seconds of a whole download over those
of the first delta, both with the time that their bytes and requests take on the line (which is computed: size / rate + requests * rtt).
"""
# A file as (seed of the generator, bytes) pieces.
Pieces = list[tuple[int, int]]


def cases(size: int) -> dict[str, tuple[list[Pieces], Pieces]]:
    """By name: the local files, and the wanted one."""
    block = size // 32
    plain: Pieces = [(1, 5000), (2, size - 5000)]
    blocks: Pieces = [(100 + number, block) for number in range(32)]
    return {
        "metadata edit": ([plain], [(3, 5200), (2, size - 5000)]),
        "1 block of 32": ([blocks], [*blocks[:7], (999, block), *blocks[8:]]),
        "4 blocks of 32": ([blocks], [(900 + n, block) if n % 8 == 3 else one for n, one in enumerate(blocks)]),
        "blocks reordered": ([blocks], [*blocks[16:], *blocks[:16]]),
        "two seeds, half each": ([blocks[:16], blocks[16:]], blocks),
        "grown by an eighth": ([blocks], [*blocks[:20], *((800 + n, block) for n in range(4)), *blocks[20:]]),
        "requantised": ([plain], [(1, 5000), (4, size - 5000)]),
    }


def stream(pieces: Pieces) -> Iterator[bytes]:
    """The file's bytes, at most a MiB at a time."""
    for seed, length in pieces:
        generator = random.Random(seed)
        for start in range(0, length, MIB):
            yield generator.randbytes(min(MIB, length - start))


def store(folder: Path, pieces: Pieces) -> tuple[str, Path, int]:
    """Writes a file as a blob: sha256, path, size."""
    digest, temp = hashlib.sha256(), folder / "temp"
    with temp.open("wb") as file:
        for piece in stream(pieces):
            digest.update(piece)
            file.write(piece)
        size = file.tell()
    path = folder / digest.hexdigest()
    temp.rename(path)
    return digest.hexdigest(), path, size


class Counting(LayoutSource):
    """A folder that counts what is asked of it and what it sends."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests = self.sent = 0

    def blob(self, *words: Any, **more: Any) -> LayoutBlob:
        self.requests += 1
        made = super().blob(*words, **more)
        read = made.read

        def counted(size: int) -> bytes:
            piece = read(size)
            self.sent += len(piece)
            return piece

        made.read = counted  # type: ignore[method-assign]
        return made


class Case:
    """One kind of change, in folders of its own: a release's one large file, and a machine that has the others."""

    def __init__(self, folder: Path, olds: list[Pieces], new: Pieces, args: argparse.Namespace) -> None:
        self.args = args
        blobs = folder / "source" / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        sha256, path, self.size = store(blobs, new)
        self.blob = Descriptor("x/y", f"sha256:{sha256}", self.size)
        bits = chunking.average_bits(self.size)
        with path.open("rb") as file:
            entry = index.entry(bytes.fromhex(sha256), self.size, bits, chunking.cut(file, bits))
        data = index.encode([entry])
        chunks = Chunks(digest_of(data), len(data))
        (blobs / chunks.digest.removeprefix("sha256:")).write_bytes(data)
        self.release = Release("line", "1.0.0", "r", "", 0, self.size, 1, 1, chunks=chunks)
        self.source = Counting(folder / "source")
        self.places = Places(folder / "state", Blobs(folder / "state" / "store"))
        for old in olds:
            store(self.places.blobs.folder, old)

    def line_s(self, moved: int, requests: int) -> float:
        """What the line needs for it."""
        return moved * 8 / self.args.mbit / 1e6 + requests * self.args.rtt_ms / 1000

    def bring(self, *, whole: bool) -> tuple[int, int]:
        """As registry/loop/errands.py does it: bytes that came, and requests."""
        self.source.requests = self.source.sent = 0
        missing = Missing((self.blob,), self.size)
        delta = (
            None if whole else deltas.begin(self.source, self.release, missing, self.places, {}, lambda _count: None)
        )
        prepare = delta.prepare if delta is not None else None
        artefact.pull(
            self.source, "r", missing, self.places, Bandwidth(), 1, lambda _d, _t: None, threading.Event(), prepare
        )
        return self.source.sent, self.source.requests

    def timed(self, *, whole: bool) -> tuple[float, tuple[int, int]]:
        """Seconds of work, and what moved; the blob is gone again afterwards."""
        found = timed(lambda: self.bring(whole=whole))
        self.places.blobs.path(self.blob.hex).unlink()
        return found

    def figures(self) -> dict[str, Any]:
        """One line of the table."""
        whole_s, _ = self.timed(whole=True)
        first_s, (moved, requests) = self.timed(whole=False)
        work_s, _ = self.timed(whole=False)
        total = first_s + self.line_s(moved, requests)
        return {
            "moved_mib": moved / MIB,
            "moved_percent": 100 * moved / self.size,
            "requests": requests,
            "first_s": first_s,
            "work_s": work_s,
            "whole_work_s": whole_s,
            "delta_s": total,
            "whole_s": whole_s + self.line_s(self.size, 1),
            "gain": (whole_s + self.line_s(self.size, 1)) / total,
        }


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the answer."""
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_delta",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--mib", type=int, default=256, help="of the wanted blob (default: 256)")
    made.add_argument("--mbit", type=float, default=100.0, help="a second of the line (default: 100)")
    made.add_argument("--rtt-ms", type=float, default=20.0, help="what a request costs on it (default: 20)")
    made.add_argument("--folder", type=Path, help="where to work (default: a new folder under TMPDIR)")
    made.add_argument("--json", action="store_true", help="one object a case")
    return made


def run(args: argparse.Namespace) -> int:
    """Prints one line a case."""
    command.check_above_zero(args, ["mib", "mbit", "rtt_ms"])
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for number, (name, (olds, new)) in enumerate(cases(args.mib * MIB).items()):
            case = Case(Path(folder) / str(number), olds, new, args)
            figures = case.figures()
            if args.json:
                print(json.dumps({"case": name, **figures}), flush=True)
                continue
            if not number:
                print(f"{'':<24}" + "".join(f"{key:>15}" for key in figures))
            print(f"{name:<24}" + "".join(f"{value:>15.3g}" for value in figures.values()), flush=True)
    if not args.json:
        print(f"\n{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB resident at most")
    return 0


def main(argv: list[str]) -> int:
    """The exit status."""
    return command.answer("bench_delta", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
