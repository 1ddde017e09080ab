"""Expiry blocks what is new and nothing else; a clock that is wrong, set back or dead makes nothing fresh again."""

import pytest

from appliance.clock import FakeClock
from appliance.registry.sources.failures import Unreachable
from appliance.registry.trust.failures import Expired
from tests.support.trust_box import Box
from tests.support.tuf_repository import LIFE_DAYS, TufRepository

BOTH = [("press", "1.0.0"), ("weld", "2.0.0")]
DAY = 86_400
TEN_YEARS = 3650 * DAY


def expired(box: Box) -> Expired:
    with pytest.raises(Expired) as caught:
        box.trust.refresh()
    return caught.value


def age(box: Box, repo: TufRepository, role: str) -> None:
    """Lets ``role`` expire while all others are renewed in time."""
    box.clock.advance((LIFE_DAYS.get(role, 90) + 1) * DAY)
    targets = [r for r in repo.roles if r not in ("root", "snapshot", "timestamp", role)]
    if role != "root":
        repo.publish_root()
    if role in ("timestamp", "snapshot"):
        live = repo.signed(role).expires
        repo.publish(*targets)
        repo.signed(role).expires = live
        if role == "snapshot":
            repo.point_timestamp(repo.write("snapshot"))
        repo.write("timestamp")
    else:
        repo.publish(*targets)


@pytest.mark.parametrize("seen", [True, False], ids=["seen before", "fresh box"])
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_top_level_role_expires(box: Box, repo: TufRepository, role: str, seen: bool) -> None:
    if seen:
        box.trust.refresh()
    age(box, repo, role)
    error = expired(box)
    assert error.role == role
    assert error.expired_s == int(repo.signed(role).expires.timestamp())
    assert error.reason == "METADATA_EXPIRED"
    assert f"the metadata of {role} (version {repo.signed(role).version})" in error.message
    assert box.last() == (BOTH if seen else [])
    if role == "root":
        repo.publish_root()
    repo.publish(*[role] if role == "targets" else [])
    assert box.versions() == BOTH


def test_a_line_expires_alone(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    age(box, repo, "models.press")
    for _ in range(2):
        verified = box.trust.refresh()
        assert [(p.line, p.reason) for p in verified.problems] == [("press", "METADATA_EXPIRED")]
        assert "models.press (version 2)" in verified.problems[0].message
        assert [r.line for r in verified.releases] == ["weld"]
        assert box.last() == BOTH
        box.restart()
    repo.publish("models.press")
    assert box.versions() == BOTH


def test_a_frozen_mirror_works_until_the_timestamp_expires(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    frozen = dict(repo.files)
    repo.release("press", "1.1.0")
    repo.publish("models.press")
    repo.files = frozen
    box.clock.advance(0.9 * DAY)
    assert box.versions() == BOTH
    box.clock.advance(0.2 * DAY)
    assert expired(box).role == "timestamp"
    assert box.last() == BOTH


def set_back(box: Box, seconds: float) -> None:
    """By an operator, an attacker with the NTP server, or an empty battery; the box then starts again."""
    box.clock.advance(-seconds)
    box.restart()


@pytest.mark.parametrize("online", [True, False], ids=["refused by the client", "while the registry was away"])
def test_a_clock_set_back_ten_years_makes_nothing_fresh_again(box: Box, online: bool) -> None:
    box.trust.refresh()
    box.clock.advance(2 * DAY)
    box.source.down = not online
    with pytest.raises(Expired if online else Unreachable):
        box.trust.refresh()
    box.source.down = False
    set_back(box, TEN_YEARS)
    assert expired(box).role == "timestamp"
    assert box.last() == BOTH
    set_back(box, 30 * TEN_YEARS)  # before 1970
    assert expired(box).role == "timestamp"


def test_what_a_new_box_has_found_expired_stays_so(box: Box) -> None:
    """Nothing was ever verified here, and still the timestamp has been judged."""
    box.clock.advance(2 * DAY)
    assert expired(box).role == "timestamp"
    set_back(box, TEN_YEARS)
    assert expired(box).role == "timestamp"


def test_the_time_of_a_successful_refresh_is_remembered(box: Box) -> None:
    now_s = box.clock.wall_ns() // 1_000_000_000
    box.trust.refresh()
    set_back(box, TEN_YEARS)
    assert box.trust.clock.now_s() == now_s


def test_time_goes_on_behind_a_clock_that_was_set_back(box: Box, repo: TufRepository) -> None:
    """Fresh metadata are still fresh, and what expired before the floor is not."""
    box.trust.refresh()
    set_back(box, TEN_YEARS)
    assert box.versions() == BOTH
    assert box.trust.clock.behind_s() > TEN_YEARS - 7200
    repo.signed("timestamp").version += 1
    repo.renew("timestamp")  # the publisher's clock is that of the box here: ten years too early
    repo.write("timestamp")
    assert expired(box).role == "timestamp"


def test_a_clock_that_was_ahead_for_an_hour_costs_one_timestamp(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    box.clock.advance(TEN_YEARS)
    assert expired(box).role == "root"  # which the client looks at first
    set_back(box, TEN_YEARS)
    assert expired(box).role == "timestamp"  # it has been judged
    box.clock.advance(3600)
    repo.publish_online()
    assert box.versions() == BOTH


def test_an_operator_forgets_a_wrong_floor(box: Box) -> None:
    box.trust.refresh()
    box.clock.advance(TEN_YEARS)
    expired(box)
    set_back(box, TEN_YEARS)
    box.trust.clock.reset()
    assert box.versions() == BOTH


@pytest.mark.parametrize("field", ["signed_s", "released_s"])
def test_a_dead_clock_takes_the_newest_signing_time(
    box: Box, repo: TufRepository, clock: FakeClock, field: str
) -> None:
    signed_s = repo.now_s() - 30
    if field == "signed_s":
        repo.signed("timestamp").unrecognized_fields["signed_s"] = signed_s
        repo.publish_online()
    else:
        repo.release("press", "1.1.0", released_s=signed_s)
        repo.publish("models.press")
    clock.advance(-clock.wall_ns() / 1e9)
    box.trust.refresh()
    assert box.trust.clock.now_s() == signed_s
    box.restart()
    assert box.trust.clock.now_s() == signed_s
    box.clock.advance(2 * DAY)
    assert box.trust.clock.now_s() == signed_s  # still 1970: no better knowledge, and no worse
    assert box.versions()


@pytest.mark.parametrize("lie", [10**12, 2**62, -5, "soon", True])
def test_a_lie_about_the_signing_time_expires_nothing(box: Box, repo: TufRepository, lie: object) -> None:
    """Whoever has a line's or the online keys cannot push the clock beyond what the other keys still vouch for."""
    for role in ("timestamp", "snapshot", "models.press"):
        repo.signed(role).unrecognized_fields["signed_s"] = lie
    repo.publish("models.press")
    box.trust.refresh()
    box.trust.refresh()
    until_s = int(repo.signed("timestamp").expires.timestamp())
    assert box.trust.clock.now_s() < until_s
    box.clock.advance(3600)
    repo.publish_online()
    assert box.versions() == BOTH
