import asyncio

import pytest

from appliance import limits
from appliance.control import RegionTable
from appliance.daemon.regions import Regions
from appliance.errors import AlreadyExists, ResourceExhausted
from appliance.questions import RegionEntry


def entry(name: str) -> RegionEntry:
    return RegionEntry(name, "/key", 0, 10, 1, 2)


class Published:
    def __init__(self) -> None:
        self.tables: list[RegionTable] = []

    async def __call__(self, table: RegionTable) -> None:
        self.tables.append(table)

    @property
    def names(self) -> list[str]:
        return [e.name for e in self.tables[-1].regions]


def test_each_change_is_told_whole() -> None:
    async def steps() -> None:
        told = Published()
        regions = Regions(told)
        await regions.register(entry("a"))
        await regions.register(entry("b"))
        assert told.names == ["a", "b"]
        await regions.unregister("a")
        assert told.names == ["b"]
        await regions.unregister("nobody")
        assert told.names == ["b"]
        await regions.register(entry("a"))
        await regions.unregister("")
        assert told.names == []
        epochs = [t.epoch for t in told.tables]
        assert epochs == sorted(set(epochs))

    asyncio.run(steps())


def test_a_name_is_taken_once() -> None:
    async def steps() -> None:
        told = Published()
        regions = Regions(told)
        await regions.register(entry("a"))
        with pytest.raises(AlreadyExists, match="'a' is registered already"):
            await regions.register(entry("a"))
        assert len(told.tables) == 1

    asyncio.run(steps())


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "shared_regions_max", 3)

    async def steps() -> None:
        regions = Regions(Published())
        for name in "abc":
            await regions.register(entry(name))
        with pytest.raises(ResourceExhausted, match="3 shared memory regions are registered"):
            await regions.register(entry("d"))
        await regions.unregister("b")
        await regions.register(entry("d"))

    asyncio.run(steps())
