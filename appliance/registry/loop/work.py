"""The update loop as a part of the sync process's work loop."""

from appliance import control
from appliance.clock import SystemClock
from appliance.config import Config
from appliance.registry.link import Link
from appliance.registry.loop.answers import UpdateAnswers
from appliance.registry.loop.errands import Errands
from appliance.registry.loop.memory import Memory
from appliance.registry.loop.updates import Updates
from appliance.registry.pull.artefact import Places
from appliance.store.store import Store


class UpdateWork:
    """``receive`` instead of the link's: updates go on while it waits."""

    def __init__(self, link: Link, config: Config, store: Store) -> None:
        clock = SystemClock()
        state = config.state_dir
        errands = Errands(config.registry, state, Places(state, store.blobs), clock)
        self._link = link
        self._updates = Updates(config.registry, store, Memory(state), errands, clock, link.send)
        self.answers = UpdateAnswers(self._updates, errands.trust)

    def receive(self) -> control.ToChild | None:
        """The supervisor's next message; None when a step of the updates was done instead."""
        self._updates.turn()
        return self._link.receive_or_wake(self._updates.fd, self._updates.due_ns)
