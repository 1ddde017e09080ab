"""What the sync process answers about the clock that expiry is judged by."""

from pathlib import Path

import pytest

from appliance.errors import Unavailable
from appliance.registry.loop.answers import UpdateAnswers
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.sources.nowhere import Nowhere
from appliance.registry.trust.releases import Trust
from appliance.sync_questions import AskTrustClock, TrustClockAnswer
from tests.support.update_rig import Box

MONTH = 30 * 86_400


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def trust(box: Box) -> Trust:
    """As new processes have it on the same state."""
    return Trust(box.folder / "trust", Nowhere(), "plant", box.clock)


@pytest.fixture
def answers(box: Box, trust: Trust) -> UpdateAnswers:
    return UpdateAnswers(box.updates, trust, Bandwidth())


def now_ms(box: Box) -> int:
    return box.clock.wall_ns() // 10**9 * 1000


def test_the_times_before_anything_was_verified(box: Box, answers: UpdateAnswers) -> None:
    now = now_ms(box)
    assert answers.answer(AskTrustClock()) == TrustClockAnswer(0, now, now, 0, 0)


def test_looking_changes_nothing(box: Box, trust: Trust, answers: UpdateAnswers) -> None:
    box.turns()
    floor_s = now_ms(box) // 1000 + MONTH
    trust.clock.expired(floor_s)
    asked, now = box.headquarters.asked, now_ms(box)
    for _ in range(2):
        found = answers.answer(AskTrustClock())
        assert found == TrustClockAnswer(floor_s * 1000, now, floor_s * 1000, now + 86_400_000, 0)
    box.turns()
    assert box.headquarters.asked == asked


def test_a_reset_forgets_it_for_good_and_polls_at_once(box: Box, trust: Trust, answers: UpdateAnswers) -> None:
    box.turns()
    floor_s = now_ms(box) // 1000 + MONTH
    trust.clock.expired(floor_s)
    asked, now = box.headquarters.asked, now_ms(box)
    found = answers.answer(AskTrustClock(reset=True))
    assert found == TrustClockAnswer(0, now, now, now + 86_400_000, floor_s * 1000)
    assert Trust(box.folder / "trust", Nowhere(), "plant", box.clock).clock.floor_s == 0
    box.turns()
    assert box.headquarters.asked == asked + 1


def test_not_while_the_registry_is_being_asked(box: Box, trust: Trust, answers: UpdateAnswers) -> None:
    trust.clock.expired(now_ms(box) // 1000 + MONTH)
    box.turn()
    assert box.updates.courier.busy
    with pytest.raises(Unavailable, match="try again in a moment"):
        answers.answer(AskTrustClock(reset=True))
    assert isinstance(answers.answer(AskTrustClock()), TrustClockAnswer)
    assert trust.clock.floor_s == now_ms(box) // 1000 + MONTH
