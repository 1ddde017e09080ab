"""The update loop as a part of the sync process's work loop."""

from appliance import control
from appliance.clock import SystemClock
from appliance.config import Config
from appliance.registry.bundle.returned import WriteBack, known
from appliance.registry.bundle.stick import open_stick
from appliance.registry.link import Link
from appliance.registry.loop.answers import UpdateAnswers
from appliance.registry.loop.errands import Errands
from appliance.registry.loop.gather import Gather
from appliance.registry.loop.healing import Healer, sources_of
from appliance.registry.loop.means import Means
from appliance.registry.loop.record import Record
from appliance.registry.loop.updates import Updates
from appliance.registry.loop.visits import Visits
from appliance.registry.loop.word import Word
from appliance.registry.pull.artefact import Places
from appliance.registry.sync.journal import Journal
from appliance.registry.trust.provisioned import install_first
from appliance.store.store import Store


class UpdateWork:
    """``receive`` instead of the link's: updates go on while it waits."""

    def __init__(self, link: Link, config: Config, store: Store) -> None:
        clock = SystemClock()
        state = config.state_dir
        places = Places(state, store.blobs)
        journal = Journal(state)
        errands = Errands(config.registry, state, places, clock, lambda: store.refs)
        install_first(errands.trust, config.registry.root)
        write_back = WriteBack(state, journal.device, lambda: known(store, errands.trust), clock)
        means = Means(
            store,
            Record(journal, store, clock),
            Gather(config.registry, places, store, journal),
            errands,
            Visits(clock, open_stick, write_back),
            Word(link.send),
            clock,
            link.send,
        )
        self._link = link
        self._updates = Updates(config.registry, means)
        healer = Healer(
            state,
            store.blobs,
            lambda sleep: sources_of(config.registry, sleep, means.visits.last),
            errands.bandwidth,
            lambda: errands.known,
            lambda: store.refs,
            clock,
        )
        store.heal_with(healer.fetch)
        self.answers = UpdateAnswers(self._updates, errands.trust, errands.bandwidth)

    def receive(self) -> control.ToChild | None:
        """The supervisor's next message; None when a step of the updates was done instead."""
        self._updates.turn()
        return self._link.receive_or_wake(self._updates.courier.fd, self._updates.due_ns)
