"""Kills, power cuts and failing disks at every fault point of whole updates: afterwards the old or the new version serves.

A part of the points, all kinds of harm; `scripts/update_matrix` runs all of them and prints the table.
"""

import pytest

from tests.support.update_machine import Scenario
from tests.support.update_matrix import AT_POINTS, SCENARIOS, Hurt, Matrix, table

# Every so many points; each kind of harm begins at another one.
EVERY = 14


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_old_or_new_serves_and_the_next_start_completes(matrix: Matrix, scenario: Scenario) -> None:
    points = matrix.points(scenario)
    # Every step of an update is among them.
    for step in ("trust.", "sync.journal.", "store.", "pull."):
        assert any(point.startswith(step) for point in points), step
    results = [
        matrix.run(scenario, index, hurt)
        for first, hurt in enumerate(AT_POINTS)
        for index in range(first * 2, len(points), EVERY)
    ]
    print(table(results))
    assert [result for result in results if result.problem] == []
    assert {result.serves for result in results} == {scenario.old, scenario.new} - (
        {scenario.new} if scenario.fails else set()
    )


def test_the_matrix_would_see_it_if_a_step_were_not_synced(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that syncs nothing: the played power cut must show."""
    scenario = SCENARIOS[1]
    monkeypatch.setattr("tests.support.power_cut.Disk._synced", lambda _disk, _fd: None)
    last = len(matrix.points(scenario)) - 1
    result = matrix.run(scenario, last, Hurt.KEEPS)
    assert result.problem
