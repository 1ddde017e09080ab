"""``scripts/update_matrix``: every fault point of whole updates, hurt in every way; prints what served afterwards."""

import argparse
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.update_matrix import AT_POINTS, SCENARIOS, Matrix, Result, table


def main() -> int:
    """The exit status: 0 when after every run the old or the new version served, and the next start completed."""
    arguments = _parser().parse_args()
    logging.disable(logging.CRITICAL)
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        results = _results(Matrix(folder), arguments.every)
    finally:
        shutil.rmtree(folder)
    print(table(results))
    wrong = [result for result in results if result.problem]
    for result in wrong:
        print(f"WRONG: {result.scenario}, {result.hurt.value} at {result.point}: {result.problem}")
    print(f"{len(results)} runs, {len(wrong)} wrong")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/update_matrix", description=__doc__, epilog="example: scripts/update_matrix --every 5"
    )
    parser.add_argument("--every", type=int, default=1, help="only every so many points (default: all)")
    return parser


def _results(matrix: Matrix, every: int) -> list[Result]:
    # What the hurt processes say on their way down would bury the table.
    quiet = os.open(os.devnull, os.O_WRONLY)
    loud = os.dup(2)
    os.dup2(quiet, 2)
    results = []
    for scenario in SCENARIOS:
        points = range(0, len(matrix.points(scenario)), every)
        for hurt in AT_POINTS:
            print(f"\r{scenario.name}: {hurt.value}, {len(points)} points ...".ljust(79), end="", flush=True)
            results += [matrix.run(scenario, index, hurt) for index in points]
    print("\r".ljust(80), end="\r")
    os.dup2(loud, 2)
    return results


if __name__ == "__main__":
    sys.exit(main())
