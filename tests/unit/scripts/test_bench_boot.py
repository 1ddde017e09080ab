"""When bench_boot says that something takes too long."""

import json

import pytest
from bench.boot import BOUNDS_S, report

FAST = {what: [bound / 2] * 3 for what, bound in BOUNDS_S.items()}


def test_medians_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(FAST, as_json=False) == 0
    one_slow_round = {**FAST, "restart": [1.0, 100.0, 1.5]}
    assert report(one_slow_round, as_json=True) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["median"]["restart"] == 1.5


def test_over_a_bound(capsys: pytest.CaptureFixture[str]) -> None:
    slow = {**FAST, "boot": [BOUNDS_S["boot"] + 0.1] * 3}
    assert report(slow, as_json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("over")] == ["boot"]
