"""A machine whose clock was ahead once and is right again: everything counts as expired, until somebody forgets the floor."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_process import Daemon
from headquarters import Headquarters
from running import running, versions

from appliance.clock import FakeClock
from appliance.registry.trust.clock import ClockFloor

FakeFolder = Callable[..., Path]
CONFIG = """
[server]
address = "127.0.0.1:0"
[registry]
url = "{url}"
prefix = "plant"
poll_seconds = 1
"""
MONTH_S = 30 * 86_400


@pytest.fixture
def headquarters(tmp_path: Path) -> Headquarters:
    return Headquarters(tmp_path, "", "press")


def clock(box: Daemon, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box.cli("registry", "clock", "--json", *options).stdout)
    return found


def sync(box: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box.cli("sync", "status", "--json", check=False).stdout)
    return found


def test_a_floor_from_the_future_is_forgotten(
    headquarters: Headquarters, fake_folder: FakeFolder, tmp_path: Path
) -> None:
    headquarters.release(fake_folder("press", "1.0.0", constant=10).rename(tmp_path / "press-1.0.0"), "1.0.0")
    # What a refresh writes down when the clock is a month ahead.
    trust = tmp_path / "box/state/trust"
    trust.mkdir(parents=True)
    ahead_s = int(time.time()) + MONTH_S
    ClockFloor(trust, FakeClock(wall_ns=ahead_s * 10**9)).agreed(ahead_s)
    with running(tmp_path / "box", config=CONFIG.format(url=headquarters.url)) as box:
        box.cli("registry", "trust", str(headquarters.root), "--yes")
        box.eventually(lambda: "expired" in sync(box)["error"])
        assert versions(box, "press") == {}
        found = clock(box)
        assert found["floor_ms"] == found["judged_ms"] == ahead_s * 1000
        assert found["machine_ms"] < found["floor_ms"]
        assert "judged by the floor" in box.cli("registry", "clock").stdout
        box.eventually(lambda: box.cli("registry", "clock", "--reset", "--yes", check=False).returncode == 0)
        box.eventually(lambda: versions(box, "press").get("1.0.0") == ("ready", True))
        after = clock(box)
        assert after["floor_ms"] <= after["machine_ms"] == after["judged_ms"] < after["fresh_until_ms"]
        assert sync(box)["error"] == ""
