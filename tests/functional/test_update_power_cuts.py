"""The whole daemon, killed at fault points of an update: the version before serves meanwhile, and the next start completes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headquarters import Headquarters, box_config
from running import running, versions
from traffic import call

# One for each step: metadata, journal, bytes, blob, index, what should run.
POINTS = (
    "trust.metadata.rename",
    "trust.kept.folder",
    "sync.journal.rename",
    "pull.write",
    "pull.take",
    "store.blob.folder",
    "store.index.rename",
    "store.desired.rename",
)


@pytest.mark.parametrize("point", POINTS)
def test_the_daemon_is_killed_in_the_middle_of_an_update(
    point: str, short_path: Path, tmp_path: Path, fake_folder: Callable[..., Path]
) -> None:
    def press(version: str, **script: Any) -> Path:
        return fake_folder("press", version, **script).rename(tmp_path / f"press-{version}")

    headquarters = Headquarters(tmp_path, "", "press")
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    config = box_config(headquarters.url)
    with running(short_path, config=config) as box:
        box.cli("registry", "trust", str(headquarters.root), "--yes")
        box.eventually(lambda: versions(box, "press").get("1.0.0") == ("ready", True))
    headquarters.release(press("2.0.0", constant=20), "2.0.0")
    # The sync process dies there each time that it comes to it; then all processes are killed at once.
    with running(short_path, config=config, env={"APPLIANCE_FAULTS": f"{point}=kill"}) as box:
        box.eventually(lambda: versions(box, "press").get("1.0.0") == ("ready", True))
        box.eventually(lambda: any("sync" in line and "signal 9" in line for line in box.log))
        assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]
        box.kill()
    with running(short_path, config=config) as box:
        box.eventually(lambda: versions(box, "press").get("2.0.0") == ("ready", True))
        assert call(box.address, "press").as_numpy("out_x").tolist() == [21.0]
        assert box.json("store", "check")["sound"]
