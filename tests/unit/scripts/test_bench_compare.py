import json
import math

import pytest
from bench.compare import Outcome, as_json, exit_status, in_turns, legend, shown, table
from bench.stats import Summary


def _summary(rate, p50=1.0, errors=None):
    return Summary(100, "python", {"calls_per_s": rate, "p50_ms": p50}, errors or {})


def test_servers_are_measured_in_turns():
    order = []

    def run(label, rate):
        order.append(label)
        return _summary(rate)

    outcome = in_turns("c", {"a": lambda: run("a", 30.0), "b": lambda: run("b", 10.0)}, 3)
    assert order == ["a", "b"] * 3
    assert [len(rounds) for rounds in outcome.rounds.values()] == [3, 3]
    assert outcome.ratio["calls_per_s"] == 3


def test_one_server_has_no_ratio():
    outcome = Outcome("c", {"a": [_summary(1.0)]})
    assert outcome.ratio is None
    assert legend([outcome]) == ""
    assert "ratio" not in table([outcome], ["calls_per_s"])


def test_table_has_both_servers_and_their_ratio():
    outcome = Outcome(
        "64 in flight", {"ours": [_summary(3000.0, 2.0)], "theirs": [_summary(1200.0, 8.0, {"UNAVAILABLE": 7})]}
    )
    lines = table([outcome], ["calls_per_s", "p50_ms"]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["case", "server", "driver", "calls_per_s", "p50_ms", "errors"]
    assert cells[2] == ["64 in flight", "ours", "python", "3,000", "2.00", "0"]
    assert cells[3] == ["64 in flight", "theirs", "python", "1,200", "8.00", "UNAVAILABLE 7"]
    assert cells[4] == ["64 in flight", "ratio", "", "2.50", "0.25", ""]
    assert len({len(line) for line in lines}) == 1
    assert "favours ours in calls_per_s" in legend([outcome])


@pytest.mark.parametrize(("errors", "status"), [({}, 0), ({"UNAVAILABLE": 1}, 1)])
def test_any_failed_call_fails_the_run(errors, status):
    assert exit_status([Outcome("c", {"a": [_summary(1.0), _summary(1.0, errors=errors)]})]) == status


def test_a_round_without_a_call_is_told_and_fails_the_run(capsys):
    nothing = Summary(0, "python", {"calls_per_s": 0.0, "p50_ms": math.nan}, {})
    outcome = in_turns("c", {"a": lambda: nothing}, 1)
    assert exit_status([outcome]) == 1
    assert "a: no call fell into the measured window; lengthen --duration" in capsys.readouterr().err


def test_json_has_every_round_and_no_nan():
    outcome = Outcome("c", {"a": [_summary(1.0, math.nan), _summary(3.0, math.nan)]})
    read = json.loads(as_json([outcome], {"options": {}}))
    assert [one["figures"]["calls_per_s"] for one in read["cases"][0]["rounds"]["a"]] == [1.0, 3.0]
    assert read["cases"][0]["median"]["a"]["figures"] == {"calls_per_s": 2.0, "p50_ms": None}


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "-"), (1234.5, "1,234"), (12.345, "12.35"), (0.01234, "0.0123"), (0, "0")]
)
def test_figures_are_short(value, text):
    assert shown(value) == text
