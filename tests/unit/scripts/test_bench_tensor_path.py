"""scripts/bench_tensor_path runs from one end to the other; its figures are not this test's business."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "bench_tensor_path"


def test_a_row_for_each_way_and_nothing_left_behind() -> None:
    before = set(os.listdir("/dev/shm"))
    command = [str(SCRIPT), "--rounds", "1", "--bytes", "1024", "70000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split("|")[1:3] for line in done.stdout.splitlines()[2:]]
    ways = ("socket", "arena", "shared memory")
    assert [(size.strip(), way.strip()) for size, way in rows] == [(s, w) for s in ("1024", "70000") for w in ways]
    assert not {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("bench-")}
