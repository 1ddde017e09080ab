"""`appliance serve`: checks the ground, runs the supervisor, and turns what ends it into an exit status."""

import asyncio
import logging

from appliance import __version__
from appliance.config import Config
from appliance.daemon import preflight
from appliance.daemon.supervisor import Supervisor
from appliance.errors import ApplianceError
from appliance.logs import configure

_log = logging.getLogger(__name__)


def run(config: Config) -> int:
    """Serves until SIGTERM or SIGINT. Returns 0 after an orderly stop, 1 when the daemon could not serve."""
    configure(config.log, "supervisor")
    try:
        lock = preflight.prepare(config)
    except ApplianceError as error:
        _log.error("%s", error.message)
        return 1
    try:
        _log.info("inference appliance %s, state in %s", __version__, config.state_dir)
        config = preflight.with_port(config)
        asyncio.run(Supervisor(config, config.runtime_dir / "engines").run())
    except ApplianceError as error:
        _log.error("%s", error.message)
        return 1
    finally:
        preflight.clear_away(config)
        lock.close()
    return 0
