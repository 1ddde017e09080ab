"""scripts/sim_fleet: the network against sums that anybody can check, and a fleet against what must be so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim import command
from sim.fleet import Fleet, Scenario
from sim.network import SharedLine

SMALL = Scenario("all", boxes=500, bytes=10e6, egress=10e6, link=1e6, poll_s=3600)
SCRIPT = Path(__file__).parents[3] / "scripts/sim_fleet"


def ends(line: SharedLine) -> list[tuple[float, int]]:
    found = []
    while line.flows:
        at_s, who = line.end()
        found.append((round(at_s, 6), who))
    return found


def test_a_flow_alone_has_its_link() -> None:
    line = SharedLine(egress=100, link=10)
    line.begin(5, 1, 100)
    assert ends(line) == [(15, 1)]
    assert line.end_s == float("inf")


def test_flows_share_the_registrys_line() -> None:
    line = SharedLine(egress=10, link=10)
    line.begin(0, 1, 100)
    line.begin(5, 2, 100)
    # 50 bytes alone, then half of it each: the first ends at 15, the second has 50 left and all of the line.
    assert ends(line) == [(15, 1), (20, 2)]


def test_a_small_one_overtakes_and_a_pause_costs_nothing() -> None:
    line = SharedLine(egress=10, link=10)
    line.begin(0, 1, 100)
    line.begin(0, 2, 10)
    assert line.end() == (2, 2)
    assert line.end() == (11, 1)
    line.begin(100, 3, 10)
    assert ends(line) == [(101, 3)]


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(1, 500)), min_size=1, max_size=12))
def test_no_byte_is_made_or_lost(flows: list[tuple[float, float]]) -> None:
    line = SharedLine(egress=20, link=8)
    begun = sorted(flows)
    last = 0.0
    for who, (at_s, size) in enumerate(begun):
        while line.flows and line.end_s <= at_s:
            last = line.end()[0]
        line.begin(at_s, who, size)
    while line.flows:
        last = line.end()[0]
    total = sum(size for _, size in flows)
    assert last >= total / 20 - 1e-6
    assert last >= max(at_s + size / 8 for at_s, size in flows) - 1e-6
    assert last <= begun[-1][0] + total / 8 + 1e-6


def run(**more: object) -> object:
    import dataclasses

    return Fleet(dataclasses.replace(SMALL, **more)).run()  # type: ignore[arg-type]


def test_a_fleet_in_figures_that_can_be_checked() -> None:
    found = run(jitter=False)
    # 500 times 10 MB through 10 MB/s.
    assert found.s100 == pytest.approx(500, rel=1e-6)
    assert found.egress_peak_flows == 500
    # One poll, four more for what is new, four files.
    assert (found.requests, found.requests_peak) == (500 * 9, 500 * 9)
    assert found.server_bytes == pytest.approx(500 * 10e6, rel=0.01)


def test_places_in_the_interval_spread_the_requests() -> None:
    together, apart = run(jitter=False), run()
    assert apart.requests_peak < together.requests_peak / 50
    assert 1500 < apart.s50 < 2100
    assert 3400 < apart.s100 < 3700


def test_the_planner_holds_the_waves() -> None:
    found = run(waves=((10, 0), (50, 4), (100, 8)))
    # A box polls within an hour of its wave: half of them have it before the third one opens.
    assert 4 * 3600 < found.s50 < 8.2 * 3600
    assert 8 * 3600 < found.s95 <= found.s100 < 9.2 * 3600
    assert found.plans < 500 * 3


def test_a_cache_fetches_once_for_its_site() -> None:
    found = run(site=10)
    assert found.server_bytes == pytest.approx(50 * 10e6, rel=0.02)
    assert found.requests < run().requests


def test_a_delta_moves_its_share() -> None:
    assert run(delta=0.05).server_bytes == pytest.approx(run().server_bytes * 0.05, rel=0.1)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert run(waves=((50, 0), (100, 1))) == run(waves=((50, 0), (100, 1)))
    assert run(seed=2) != run()


def test_who_never_gets_it_is_told() -> None:
    with pytest.raises(ValueError, match="never gets it"):
        run(waves=((50, 0),))


def test_it_runs_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--boxes", "200", "--mb", "5"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "requests/s" in head
    assert [row.split()[0] for row in rows] == [s.name for s in command.scenarios(command.parser().parse_args([]))]
    assert command.main(["--boxes", "50", "--only", "all,cache", "--json"]) == 0
    assert [found["name"] for found in json.loads(capsys.readouterr().out)] == ["all", "cache"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--boxes", "0"], "--boxes must be above 0"),
        (["--egress-mbit", "-1"], "--egress-mbit must be above 0"),
        (["--mb", "nan"], "--mb must be above 0"),
        (["--boxes", "2000000"], "at most 1,000,000"),
        (["--delta", "101"], "100 percent"),
        (["--only", "none"], "--only none: there are together, all,"),
        (["--waves", "5"], "must be PERCENT:HOURS"),
        (["--waves", "5:0,50:1"], "100 at the end"),
        (["--waves", "5:4,1:5,100:6"], "larger and later"),
        (["--waves", "5:4,100:2"], "larger and later"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_the_script_itself() -> None:
    done = subprocess.run(
        [str(SCRIPT), "--boxes", "20", "--only", "delta"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[1].startswith("delta")
