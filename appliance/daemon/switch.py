"""Changes what should run of a model: written down durably first, then routed to, and what is left over is unloaded last."""

from collections.abc import Callable

from appliance.daemon import wishes
from appliance.daemon.changes import Changes
from appliance.daemon.engines import Engines
from appliance.daemon.inventory import Inventory
from appliance.daemon.sync_link import SyncLink
from appliance.questions import AskDesire
from appliance.versions import Desired


class Switch:
    """The one way to a new ``Desired``. Whoever uses it holds ``changes.only(name)``."""

    def __init__(self, sync: SyncLink, inventory: Inventory, engines: Engines) -> None:
        self.changes = Changes()
        # Told of each change, once it is durable.
        self.followed: Callable[[Desired], None] = lambda _: None
        self._sync = sync
        self._inventory = inventory
        self._engines = engines

    async def desire(self, after: Desired) -> None:
        """Makes this what should run, for the next start too, and routes by it. Its versions are loaded already."""
        await self._sync.ask(AskDesire(after))
        self._inventory.wish(after)
        self._engines.publish()
        self.followed(after)

    async def unload_rest(self, before: Desired) -> None:
        """Unloads what was to run by ``before`` and is not to any more. A call that is running is finished."""
        wanted = wishes.loaded(self._inventory.desired(before.name))
        for version in wishes.loaded(before):
            if version not in wanted:
                await self._engines.unload(before.name, version)
