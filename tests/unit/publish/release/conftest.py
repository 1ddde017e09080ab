"""A publisher who has begun, and a box that trusts it."""

import pytest
from publishing import Client, Desk, started


@pytest.fixture
def desk(tmp_path) -> Desk:
    return started(tmp_path / "publisher")


@pytest.fixture
def box(tmp_path, desk) -> Client:
    return Client(tmp_path / "box", desk.remote, desk.root())
