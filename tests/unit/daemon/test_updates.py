"""What the sync process wants, carried out: real engine processes, a store in memory that remembers how updates ended."""

import asyncio

from models_rig import Rig

from appliance.control import Unneeded, Updated
from appliance.daemon.updates import Updates
from appliance.questions import Answer, Question
from appliance.sync_questions import AskUpdateEnded
from appliance.types import ModelState


class Wants:
    """The rig's sync process, as one that has stored updates."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.ended: list[AskUpdateEnded] = []
        self.started = asyncio.Event()
        self.started.set()
        self._ask = rig.sync.ask
        rig.sync.ask = self.ask  # type: ignore[method-assign]
        self.updates = Updates(rig.models, rig.sync, self._wait)  # type: ignore[arg-type]

    async def _wait(self) -> None:
        await self.started.wait()

    async def ask(self, question: Question, progress: object = None) -> Answer:
        if isinstance(question, AskUpdateEnded):
            self.ended.append(question)
        return await self._ask(question, progress)

    def update(self, version: str, activate: bool = True, probation: float = 0.0, **script: object) -> None:
        model = self.rig.version(version, **script)
        self.rig.sync.stored[version] = model
        self.updates.hear(Updated(model, activate, probation))


def test_an_update_runs_and_its_end_is_told(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        wants.update("2.0.0", probation=60.0)
        await rig.until(lambda: bool(wants.ended))
        assert wants.ended == [AskUpdateEnded("m", "2.0.0")]
        assert (rig.sync.desired.active, rig.sync.desired.previous) == ("2.0.0", "1.0.0")
        assert rig.sync.desired.probation is not None
        # The same again, after the sync process died: it is told again, and nothing else happens.
        wants.update("2.0.0", probation=60.0)
        await rig.until(lambda: len(wants.ended) == 2)
        assert rig.sync.desired.previous == "1.0.0"


def test_one_that_is_only_to_be_stored_is_known(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        wants.update("2.0.0", activate=False)
        await rig.until(lambda: bool(wants.ended))
        assert rig.state("2.0.0") is ModelState.STORED
        assert rig.sync.desired.active == "1.0.0"


def test_one_that_cannot_run_is_told_with_the_reason_and_the_old_one_stays(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        wants.update("2.0.0", probation=60.0, refuse={"message": "told not to load"})
        await rig.until(lambda: bool(wants.ended))
        assert wants.ended[0].code
        assert "told not to load" in wants.ended[0].message
        assert rig.sync.desired.active == "1.0.0"
        assert [bad.version for bad in rig.sync.desired.quarantined] == ["2.0.0"]


def test_a_failure_that_nobody_foresaw_is_told_too(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        async def fails(*_args: object, **_options: object) -> None:
            raise KeyError("nobody foresaw it")

        wants = Wants(rig)
        rig.models.activate = fails  # type: ignore[method-assign]
        wants.update("2.0.0")
        await rig.until(lambda: bool(wants.ended))
        assert (wants.ended[0].code, wants.ended[0].reason) == ("INTERNAL", "INTERNAL")
        assert "nobody foresaw it" in wants.ended[0].message
        assert rig.sync.desired.active == "1.0.0"


def test_it_waits_for_an_operators_change_and_for_the_catalogue(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        wants.started.clear()
        wants.update("3.0.0")
        adding = asyncio.create_task(rig.add("2.0.0", load_delay_ms=300))
        await rig.until(lambda: "2.0.0" in rig.sync.stored)
        assert not wants.ended
        wants.started.set()
        await adding
        await rig.until(lambda: bool(wants.ended))
        assert wants.ended == [AskUpdateEnded("m", "3.0.0")]
        assert rig.sync.desired.active == "3.0.0"


def test_what_is_not_needed_goes_unless_it_is(rig) -> None:
    @rig("2.0.0", "1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        for version in ("2.0.0", "9.9.9", "1.0.0"):
            wants.updates.hear(Unneeded("m", version))
        await rig.until(lambda: len(wants.ended) == 3)
        assert sorted(rig.sync.stored) == ["2.0.0"]
        codes = {ended.version: ended.reason for ended in wants.ended}
        assert codes == {"2.0.0": "MODEL_LOADED", "9.9.9": "VERSION_UNKNOWN", "1.0.0": ""}


def test_nothing_goes_on_after_the_stop(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        wants.started.clear()
        wants.update("2.0.0")
        await asyncio.sleep(0)
        wants.updates.stop()
        wants.started.set()
        await asyncio.sleep(0)
        assert not wants.ended
        assert rig.sync.desired.active == "1.0.0"
