"""`appliance registry clock` against a simulated daemon: what it says of the times, and that it asks before it forgets."""

import grpc
import pytest

from appliance.cli.exit_codes import ExitCode
from appliance.pb.appliance.v1 import admin_pb2 as pb

NOW = 1_700_000_000_000
DAY = 86_400_000


def times(floor: int = 0, machine: int = NOW, fresh: int = 0) -> pb.TrustClockResponse:
    return pb.TrustClockResponse(
        floor_ms=floor, machine_ms=machine, judged_ms=max(floor, machine), fresh_until_ms=fresh
    )


AHEAD = times(floor=NOW + 30 * DAY, fresh=NOW + DAY)


@pytest.fixture
def world(daemon):
    daemon.world.clock.CopyFrom(AHEAD)
    return daemon.world


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (times(), ["none yet", "judged by the machine's clock", "No metadata of the publisher"]),
        (times(floor=NOW - DAY, fresh=NOW + DAY), ["judged by the machine's clock", "metadata are good until 20"]),
        (times(floor=NOW - DAY, fresh=NOW), ["judged by the machine's clock", "expired at 20"]),
        (AHEAD, ["judged by the floor", "is 30d 0h behind it", "--reset", "By the machine's clock they would be good"]),
        (times(NOW, NOW - DAY, NOW - 2 * DAY), ["judged by the floor", "1d 0h behind", "expired at 20"]),
        (times(NOW, -NOW, NOW), ["judged by the floor", "By the machine's clock they would be good"]),
    ],
)
def test_what_follows_is_told(ask, world, found, words):
    world.clock.CopyFrom(found)
    done = ask("registry", "clock")
    assert done.code == 0
    assert all(word in done.out for word in words), done.out
    assert ("would be good" in done.out) == ("By the machine's clock they would be good" in words)
    assert max(map(len, done.out.splitlines())) <= 80
    assert [request.reset for request in world.requests] == [False]


def test_json_has_the_times(ask, world):
    assert ask("registry", "clock", "--json").json == {
        "floor_ms": NOW + 30 * DAY,
        "machine_ms": NOW,
        "judged_ms": NOW + 30 * DAY,
        "fresh_until_ms": NOW + DAY,
        "forgotten_ms": 0,
    }


def test_the_floor_is_forgotten_after_a_yes(ask, world):
    done = ask("registry", "clock", "--reset", stdin=b"y\n")
    assert done.code == 0
    shown, _, after = done.out.partition("Is the machine's clock right?")
    assert "30d 0h behind" in shown
    assert "forgotten: the floor of 20" in after
    assert "judged by the machine's clock" in after
    assert "good until" in after
    assert [request.reset for request in world.requests] == [False, True]


def test_without_a_yes_it_stays(ask, world):
    done = ask("registry", "clock", "--reset", stdin=b"n\n")
    assert done.code == ExitCode.REFUSED
    assert "left as it is" in done.err
    assert [request.reset for request in world.requests] == [False]


def test_scripts_say_yes(ask, world):
    assert ask("registry", "clock", "--reset", "--json").code == ExitCode.USAGE
    assert world.requests == []
    document = ask("registry", "clock", "--reset", "--yes", "--json").json
    assert (document["floor_ms"], document["forgotten_ms"]) == (0, NOW + 30 * DAY)
    assert [request.reset for request in world.requests] == [True]


def test_yes_alone_forgets_nothing(ask, world):
    assert ask("registry", "clock", "--yes").code == 0
    assert [request.reset for request in world.requests] == [False]


def test_a_refusal_is_told(ask, world):
    world.fail_with = (grpc.StatusCode.FAILED_PRECONDITION, "no registry is configured")
    done = ask("registry", "clock")
    assert done.code == ExitCode.REFUSED
    assert "no registry is configured" in done.err
