import logging

import pytest

from appliance.daemon.readiness import ReadinessLog


def test_each_change_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ReadinessLog()
    log.note(("a",))
    assert caplog.messages == []  # the start is still under way
    log.begin(("a",))
    for missing in (("a",), (), (), ("a", "b"), ("b",), ()):
        log.note(missing)
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("INFO", "ready: all required models take calls"),
        ("ERROR", "not ready: the required model(s) a, b take no calls"),
        ("ERROR", "not ready: the required model(s) b take no calls"),
        ("INFO", "ready: all required models take calls"),
    ]
