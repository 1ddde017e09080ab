"""`appliance doctor` about the real-time class: of the daemon where it runs, else of this process."""

import os

import pytest

from appliance.cli.checks_realtime import check_realtime
from appliance.config import Config, EnginesConfig
from appliance.daemon import realtime
from appliance.osutil import scheduling


@pytest.mark.parametrize(
    ("wanted", "pid", "why", "level", "words"),
    [
        (False, 7, "the limit is 0", "ok", "not wanted"),
        (True, 7, "", "ok", "allowed (the daemon, pid 7)"),
        (True, 0, "", "ok", "allowed (this user"),
        (True, 7, "the limit is 0", "warn", "not allowed (the daemon, pid 7): the limit is 0"),
        (True, 0, "the limit is 0", "warn", "not allowed (this user"),
    ],
)
def test_the_line(monkeypatch, wanted, pid, why, level, words) -> None:
    asked = []
    monkeypatch.setattr(realtime, "refusal", lambda pid: asked.append(pid) or why)
    found = check_realtime(Config(engines=EnginesConfig(realtime=wanted)), pid)
    assert (found.level, words in found.found) == (level, True)
    assert asked == ([pid] if wanted else [])
    assert ("LimitRTPRIO=1" in found.advice) is (level == "warn")


def test_a_process_by_its_number_is_judged_as_it_judges_itself() -> None:
    assert realtime.refusal(os.getpid()) == realtime.refusal() == scheduling.realtime_refusal(scheduling.look())
