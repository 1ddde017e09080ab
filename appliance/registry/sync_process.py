"""The sync process: the only writer of the model store. ``python -m appliance.registry.sync_process CONTROL_FD``.

One thread: it waits for a question, answers it, and beats from the same loop. The end of the control channel is the end
of the process; what it was writing is swept when the next one starts.
"""

import logging
import sys
from typing import TYPE_CHECKING

from appliance import control, events, frames, logs
from appliance.config import Config
from appliance.osutil.child import adopt_control
from appliance.registry.answers import Answers
from appliance.registry.incoming import Incoming
from appliance.registry.link import Link
from appliance.registry.no_registry import without_registry
from appliance.store.store import Store

if TYPE_CHECKING:
    from appliance.registry.loop.work import UpdateWork

_log = logging.getLogger(__name__)


class CannotOpen(Exception):
    """The state folder can't be used; the message is for the log."""


def serve(link: Link, config: Config) -> None:
    """Opens the store, tidies up and answers questions until the supervisor says Drain or goes away."""
    try:
        store = Store(config.state_dir)
        incoming = Incoming(config.state_dir)
    except OSError as error:
        raise CannotOpen(
            f"the model store in {config.state_dir} cannot be opened: {error.strerror or error}"
        ) from error
    updates = _updates(link, config, store)  # before the sweep: what came of updates under way is no garbage
    try:
        abandoned = incoming.clear()
        if abandoned:
            _log.info("removed %d uploads that an earlier run left unfinished", abandoned)
        store.sweep()
    except OSError:
        _log.exception("tidying up the store failed; it is served as it is", extra=events.STORE_UNKEMPT.of())
    of_updates = updates.answers.answer if updates else without_registry
    answers = Answers(store, incoming, link.beat, of_updates=of_updates)
    while True:
        message = updates.receive() if updates else link.receive()
        if message is None:
            continue
        if isinstance(message, control.Drain):
            return
        if isinstance(message, control.Ask):
            _answer(link, answers, message)
        else:
            _log.warning(
                "ignored %s, which is not for the sync process",
                type(message).__name__,
                extra=events.INTERNAL_FAULT.of(),
            )


def _updates(link: Link, config: Config, store: Store) -> "UpdateWork | None":
    """The update loop, where a registry is configured; without one, nothing that it needs is loaded."""
    if not config.registry.url:
        return None
    from appliance.registry.loop.work import UpdateWork

    return UpdateWork(link, config, store)


def _answer(link: Link, answers: Answers, ask: control.Ask) -> None:
    answer = answers.answer(ask.question, lambda progress: link.send(control.Told(ask.number, progress)))
    link.send(control.Told(ask.number, answer))


def main() -> int:
    """The process, from its first message to its last."""
    link = Link(adopt_control(int(sys.argv[1]), "appliance-sync"))
    try:
        first = link.receive()
        if not isinstance(first, control.StartSync):
            _log.error(
                "the first message was %s, not StartSync", type(first).__name__, extra=events.INTERNAL_FAULT.of()
            )
            return 1
        logs.configure(first.config.log, "sync")
        serve(link, first.config)
    except (frames.EndOfStream, ConnectionError):
        _log.info("the supervisor is gone")
    except CannotOpen as error:
        _log.error("%s", error, extra=events.SERVICE_REFUSED.of())
        return 1
    finally:
        logging.shutdown()  # with the end of the link the supervisor ends what is left of this process
    return 0


if __name__ == "__main__":
    sys.exit(main())
