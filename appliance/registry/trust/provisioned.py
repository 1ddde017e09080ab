"""The root of trust that the configuration names: for machines that are set up without anybody who compares fingerprints."""

import logging
from pathlib import Path

from appliance import events, limits
from appliance.errors import ApplianceError
from appliance.osutil import bounded
from appliance.registry.trust.failures import NoRoot
from appliance.registry.trust.releases import Trust

_log = logging.getLogger(__name__)


def install_first(trust: Trust, path: str) -> None:
    """Installs the root in ``path``, "": none is named, unless one is installed already: only a person replaces that.

    What is wrong with it is logged; then there is no trust, and nothing is fetched. Raises nothing of that kind.
    """
    if not path:
        return
    try:
        trust.root()
    except NoRoot:
        _install(trust, Path(path))


def _install(trust: Trust, path: Path) -> None:
    try:
        trust.install(bounded.read(path, limits.tuf_root_bytes_max))
        facts = trust.root().facts
    except ApplianceError as error:
        _log.error(
            "registry.root: %s: %s", path, error.message, extra=events.TRUST_REFUSED.of(error_reason=error.reason)
        )
    except OSError as error:
        why = error.strerror or str(error)
        _log.error("registry.root: %s can't be read: %s", path, why, extra=events.TRUST_REFUSED.of())
    else:
        what = events.TRUST_INSTALLED.of()
        _log.info(
            "installed the root of trust in %s: version %d, sha256 %s", path, facts.version, facts.sha256, extra=what
        )
