"""Whether the latency path gets its real-time class: by the limits of the daemon that runs, else by those of this process."""

from appliance.cli.checks import Check
from appliance.config import Config


def check_realtime(config: Config, daemon_pid: int) -> Check:
    """``daemon_pid`` 0: none runs, or it cannot be asked."""
    from appliance.daemon.realtime import refusal

    whose = f"the daemon, pid {daemon_pid}" if daemon_pid else "this user; the service has limits of its own"
    if not config.engines.realtime:
        return Check("real-time class", "ok", "not wanted (engines.realtime = false)")
    why = refusal(daemon_pid)
    if not why:
        return Check("real-time class", "ok", f"allowed ({whose})")
    return Check(
        "real-time class",
        "warn",
        f"not allowed ({whose}): {why}",
        "models of the class latency answer more slowly while language models compute; set LimitRTPRIO=1 in the unit, or "
        "engines.realtime = false to do without",
    )
