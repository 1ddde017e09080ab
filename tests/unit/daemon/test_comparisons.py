"""Comparisons from their beginning to what follows from them: real engine processes, front-ends that a test speaks for."""

from collections.abc import Callable

import msgspec
import pytest
from comparison_rig import BY_HAND, READY, RULE, STORED, active_route, begin, count, quiet, refused
from models_rig import Rig

from appliance.comparison import AskComparison, Bounds, Comparison, Mode, Outcome, Plan, Tally
from appliance.daemon import comparison_file
from appliance.errors import Code
from appliance.osutil import durable
from appliance.types import ModelState


def test_the_route_says_what_is_compared_until_it_ends(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        record = await begin(rig, Plan(Mode.SHADOW, 40.0))
        beside = active_route(rig).beside
        assert beside is not None
        assert (beside.version, beside.mode, beside.percent) == ("2.0.0", Mode.SHADOW, 40.0)
        assert beside.number == record.began_ms
        assert rig.state("2.0.0") is READY
        assert rig.sync.desired.beside == ()  # after a restart the active version runs alone
        ended = await rig.models.comparisons.end("m", False, quiet)
        assert (ended.outcome, active_route(rig).beside) == (Outcome.ABANDONED, None)
        assert rig.state("2.0.0") is STORED


def test_what_front_ends_tell_is_added_up_while_it_runs(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await begin(rig)
        count(rig, offered=5, taken=2, calls=2)
        count(rig, offered=3, taken=1, calls=1)
        rig.models.comparisons.counted((Tally(1, offered=99),))  # of another one
        tally = rig.models.comparisons.show("m").tally
        assert (tally.offered, tally.taken, tally.candidate.calls) == (8, 3, 3)


def test_the_rule_promotes(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await begin(rig, msgspec.structs.replace(RULE, probation_seconds=60.0))
        count(rig, calls=10, classified=50, agreed=50)
        await rig.until(lambda: rig.models.comparisons.show("m").outcome is not Outcome.RUNNING)
        assert rig.models.comparisons.show("m").outcome is Outcome.PROMOTED
        assert rig.sync.desired.active == "2.0.0"
        assert rig.sync.desired.probation is not None
        assert active_route(rig).beside is None


@pytest.mark.parametrize(
    ("counts", "word"),
    [({"calls": 5, "failed": 5}, "could not answer"), ({"calls": 9, "classified": 50, "agreed": 10}, "agree")],
)
def test_the_rule_condemns(rig, counts: dict[str, int], word: str) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await begin(rig, RULE)
        count(rig, **counts)
        await rig.until(lambda: bool(rig.sync.desired.quarantined))
        record = rig.models.comparisons.show("m")
        assert record.outcome is Outcome.CONDEMNED
        assert word in record.reason
        assert [bad.version for bad in rig.sync.desired.quarantined] == ["2.0.0"]
        assert rig.sync.desired.active == "1.0.0"
        await rig.until(lambda: rig.state("2.0.0") is STORED)
        assert (await refused(rig.models.comparisons.begin("m", "2.0.0", RULE, quiet))).reason == "VERSION_QUARANTINED"


def test_a_candidate_that_keeps_dying_is_condemned(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await begin(rig, RULE)
        rig.kill("2.0.0")
        await rig.until(lambda: bool(rig.sync.desired.quarantined))
        assert rig.models.comparisons.show("m").outcome is Outcome.CONDEMNED
        assert rig.state("1.0.0") is READY


def test_by_hand_a_bad_one_is_only_shown(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        record = await begin(rig)
        count(rig, calls=5, failed=95)
        await rig.until(lambda: "could not answer" in record.reason)
        assert record.outcome is Outcome.RUNNING
        assert not rig.sync.desired.quarantined
        await rig.models.comparisons.end("m", True, quiet)
        assert (record.outcome, rig.sync.desired.active) == (Outcome.PROMOTED, "2.0.0")


@pytest.mark.parametrize(
    ("change", "outcome", "state"),
    [
        (lambda rig: rig.activate("2.0.0"), Outcome.PROMOTED, READY),
        (lambda rig: rig.add("3.0.0"), Outcome.INTERRUPTED, STORED),
        (lambda rig: rig.models.deactivate("m", "1.0.0", quiet), Outcome.INTERRUPTED, STORED),
        (lambda rig: rig.models.deactivate("m", "2.0.0", quiet), Outcome.ABANDONED, STORED),
        (lambda rig: rig.models.deactivate("m", "", quiet), Outcome.ABANDONED, STORED),
    ],
)
def test_another_change_of_the_model_ends_it(rig, change: Callable, outcome: Outcome, state: ModelState) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        record = await begin(rig, RULE)
        await change(rig)
        await rig.until(lambda: record.outcome is outcome)
        await rig.until(lambda: rig.state("2.0.0") is state)
        assert not rig.sync.desired.quarantined


def test_one_that_is_to_stay_loaded_stays(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await begin(rig)
        await rig.models.activate("m", "2.0.0", True, False, quiet)
        await rig.models.comparisons.end("m", False, quiet)
        assert rig.state("2.0.0") is READY


def test_adding_it_again_does_not_unload_it(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await begin(rig, RULE)
        await rig.add("2.0.0", activate=False)
        assert rig.state("2.0.0") is READY
        assert not rig.sync.desired.quarantined


def test_what_cannot_be_compared(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        comparisons = rig.models.comparisons
        await rig.add("2.0.0", activate=False)
        assert (await refused(comparisons.begin("m", "1.0.0", BY_HAND, quiet))).reason == "IS_ACTIVE"
        assert (await refused(comparisons.begin("m", "9.9.9", BY_HAND, quiet))).code is Code.NOT_FOUND
        assert (await refused(comparisons.end("m", True, quiet))).reason == "NO_COMPARISON"
        assert (await refused(comparisons.answer(AskComparison("m"), quiet))).code is Code.NOT_FOUND
        await comparisons.begin("m", "2.0.0", BY_HAND, quiet)
        assert (await refused(comparisons.begin("m", "2.0.0", BY_HAND, quiet))).reason == "COMPARISON_RUNNING"
        assert (await refused(rig.models.remove("m", "2.0.0"))).reason == "COMPARISON_RUNNING"
        await comparisons.end("m", False, quiet)
        await rig.models.deactivate("m", "1.0.0", quiet)
        assert (await refused(comparisons.begin("m", "2.0.0", BY_HAND, quiet))).reason == "NOT_ACTIVE"


# --- what outlives the daemon ----------------------------------------------------------------------------------------


def test_an_operators_comparison_begins_again_an_updates_does_not(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", activate=False)
        comparisons, state = rig.models.comparisons, rig.config.state_dir
        for waited, outcome in ((True, Outcome.INTERRUPTED), (False, Outcome.RUNNING)):
            durable.write(
                state / "comparisons.json",
                msgspec.json.encode([Comparison("m", "2.0.0", "1.0.0", BY_HAND, 5, waited=waited)]),
            )
            await comparisons.resume()
            await rig.until(lambda outcome=outcome: comparisons.show("m").outcome is outcome)
            assert (active_route(rig).beside is not None) == (not waited)
        assert comparisons.show("m").began_ms > 5


def test_what_was_seen_is_written_down_whole(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        record = await begin(rig, Plan(bounds=Bounds(0.5, 0.0, 3.0)))
        count(rig, calls=7, offered=9)
        record.tally.candidate.latency[40] = 3
        record.tally.distance_max = 1.7e308
        await rig.models.comparisons.end("m", False, quiet)
        assert comparison_file.read(rig.config.state_dir) == [record]
        assert record.reason == "an operator ended it"


def test_a_full_disk_costs_the_record_only(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write", full)

    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await begin(rig, RULE)
        count(rig, calls=10)
        await rig.until(lambda: rig.sync.desired.active == "2.0.0")
