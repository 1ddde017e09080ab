"""One publisher with two lines and a box that trusts it, both at the same fake time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.clock import FakeClock
from appliance.osutil import faults
from tests.support.trust_box import Box
from tests.support.tuf_repository import TufRepository, TufSource


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def repo(clock: FakeClock) -> TufRepository:
    made = TufRepository(clock, ["press", "weld"])
    made.release("press", "1.0.0")
    made.release("weld", "2.0.0")
    made.publish("models.press", "models.weld")
    return made


@pytest.fixture
def box(tmp_path: Path, repo: TufRepository, clock: FakeClock) -> Iterator[Box]:
    made = Box(tmp_path / "trust", TufSource(repo), clock)
    made.trust.install(repo.files["1.root.json"])
    yield made
    faults.arm("")
