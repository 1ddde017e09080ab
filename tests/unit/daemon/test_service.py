"""The loop that tells a service manager: changes at once, the watchdog in time, a reload from beginning to end."""

import asyncio
from pathlib import Path

from notify_socket import NotifySocket

from appliance.daemon.service import Service
from appliance.daemon.service_state import Facts
from appliance.osutil.notify import Notifier
from appliance.types import ModelState


def test_changes_reload_and_stop(tmp_path: Path) -> None:
    async def scenario(manager: NotifySocket) -> None:
        now = Facts(("here:1",), True, {"a": ModelState.LOADING}, ("a",))
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "90000000"})
        service = Service(notifier, lambda: now)
        running = asyncio.create_task(service.run())
        await asyncio.to_thread(manager.wait_for, "loading a")
        now = Facts(("here:1",), True, {"a": ModelState.READY})
        service.nudge()
        told = await asyncio.to_thread(manager.wait_for, "READY=1", 0.9)  # sooner than the next look
        assert told.lines == ("READY=1", "STATUS=serving 1 model on here:1", "WATCHDOG=1")

        seen = len(manager.told)
        go_on = asyncio.Event()

        async def work() -> str:
            await go_on.wait()
            return "the key is gone"

        reload = asyncio.create_task(service.reload(work))
        await asyncio.to_thread(manager.wait_for, "RELOADING=1", since=seen)
        service.nudge()
        await asyncio.to_thread(manager.wait_for, "WATCHDOG=1", since=seen)
        assert "READY=1" not in manager.lines(seen)
        go_on.set()
        await reload
        await asyncio.to_thread(manager.wait_for, "READY=1", since=seen)
        await asyncio.to_thread(manager.wait_for, "the key is gone", since=seen)

        service.stopping(3.0)
        await asyncio.to_thread(manager.wait_for, "STOPPING=1")
        service.nudge()
        await running
        assert manager.told[-1].lines[0] == "STOPPING=1"

    with NotifySocket(tmp_path / "n") as manager:
        asyncio.run(asyncio.wait_for(scenario(manager), 60))


def test_a_short_watchdog_is_fed_three_times_a_period(tmp_path: Path) -> None:
    async def scenario(manager: NotifySocket) -> None:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "150000"})
        running = asyncio.create_task(Service(notifier, lambda: Facts(known=True)).run())
        for _ in range(4):
            seen = len(manager.told)
            await asyncio.to_thread(manager.wait_for, "WATCHDOG=1", 10, seen)
        running.cancel()
        gaps = [b.at - a.at for a, b in zip(manager.told, manager.told[1:], strict=False)]
        assert min(gaps) < 0.15  # every second at the latest it would come anyway

    with NotifySocket(tmp_path / "n") as manager:
        asyncio.run(asyncio.wait_for(scenario(manager), 60))


def test_without_a_service_manager_it_ends_at_once() -> None:
    asyncio.run(asyncio.wait_for(Service(Notifier(None), Facts).run(), 10))
