"""Log lines as fields."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from appliance import logs
from appliance.config import LogConfig


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    sink = io.StringIO()
    monkeypatch.setattr(sys, "stderr", sink)
    logs.configure(LogConfig(format="json"), "supervisor")
    yield sink
    root.handlers[:] = before
    root.setLevel(level)


def test_facts_become_fields(lines: io.StringIO) -> None:
    logging.getLogger("x").info("m:2 is active", extra={"facts": {"event": "model.activated", "model": "m"}})
    logging.getLogger("x").info("no event")
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (first["event"], first["model"], first["message"]) == ("model.activated", "m", "m:2 is active")
    assert set(second) == {"time", "level", "process", "message"}
