"""`appliance models rollback`, and the options of its neighbours that lead to it, against a simulated daemon."""

import pytest

from appliance.cli.exit_codes import ExitCode


@pytest.fixture
def world(daemon):
    daemon.world.add("press", "1.12.0")
    return daemon.world


def test_rollback(ask, world):
    done = ask("models", "rollback", "press")
    assert done.out == "press 1.12.0: rolled back; ready, active\n"
    assert "press 1.12.0 is active" in done.err
    assert world.requests[-1].name == "press"


def test_rollback_as_json(ask, world):
    document = ask("models", "rollback", "press", "--json").json
    assert (document["outcome"], document["status"]["version"]) == ("rolled back", "1.12.0")
    assert document["status"]["quarantine_reason"] == ""


def test_rollback_of_nothing(ask, world):
    assert ask("models", "rollback", "nobody").code == ExitCode.NOT_FOUND
    assert ask("models", "rollback").code == ExitCode.USAGE


def test_probation_and_force_are_passed_on(ask, world):
    ask("models", "activate", "press", "1.12.0", "--probation", "90", "--force")
    assert (world.requests[-1].probation_seconds, world.requests[-1].force) == (90.0, True)
    ask("models", "activate", "press")
    assert (world.requests[-1].probation_seconds, world.requests[-1].force) == (0.0, False)


@pytest.mark.parametrize("seconds", ["-1", "604801", "soon"])
def test_a_probation_out_of_bounds_is_not_even_sent(ask, world, seconds):
    assert ask("models", "activate", "press", "--probation", seconds).code == ExitCode.USAGE
    assert world.requests == []


def test_how_a_version_stands_is_on_its_page(ask, daemon):
    daemon.world.add("press", "2.0.0", active=True, probation_until_ms=1_700_000_000_000)
    daemon.world.add("press", "3.0.0", state="stored", quarantine_reason="6 of 30 calls failed")
    page = ask("models", "show", "press", "2.0.0").out
    assert "on probation" in page
    assert "until 2023-11-1" in page
    assert "quarantined" not in page
    page = ask("models", "show", "press", "3.0.0").out
    assert "6 of 30 calls failed" in page
    assert "on probation" not in page
