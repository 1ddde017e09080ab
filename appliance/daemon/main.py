"""`appliance serve`: checks the ground, runs the supervisor, and turns what ends it into an exit status."""

import asyncio
import logging
from collections.abc import Callable

from appliance import __version__, events
from appliance.config import Config
from appliance.daemon import preflight
from appliance.daemon.reconfigure import Reconfigure
from appliance.daemon.supervisor import Supervisor
from appliance.errors import ApplianceError
from appliance.logs import configure
from appliance.osutil.notify import Notifier

_log = logging.getLogger(__name__)
# What starting again will not mend: the command line's status for "refused", after which systemd doesn't try.
_REFUSED = 7


def run(config: Config, read: Callable[[], Config] | None = None) -> int:
    """Serves until SIGTERM or SIGINT.

    Returns 0 after an orderly stop, 1 when it could not serve, 7 when it never will with this state folder.

    ``read`` reads the configuration anew, for a reload (SIGHUP); it raises InvalidArgument.
    """
    configure(config.log, "supervisor")
    notifier = Notifier.from_environment()
    try:
        lock = preflight.prepare(config)
    except ApplianceError as error:
        return _refused(error, notifier)
    try:
        _log.info("inference appliance %s, state in %s", __version__, config.state_dir)
        asked, config = config, preflight.with_port(config)
        reconfigure = Reconfigure(asked, config, read or (lambda: asked))
        asyncio.run(Supervisor(config, config.runtime_dir / "engines", notifier, reconfigure).run())
    except ApplianceError as error:
        return _refused(error, notifier)
    finally:
        preflight.clear_away(config)
        lock.close()
    return 0


def _refused(error: ApplianceError, notifier: Notifier) -> int:
    """Says why the daemon can't serve, in the log and in what `systemctl status` shows."""
    _log.error("%s", error.message, extra=events.SERVICE_REFUSED.of(error_reason=error.reason))
    notifier.tell([f"STATUS={' '.join(error.message.split())}"])
    return _REFUSED if error.reason in ("STATE_TOO_NEW", "STATE_FORMAT") else 1
