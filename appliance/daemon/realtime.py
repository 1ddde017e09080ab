"""What `appliance doctor` asks of the daemon's own judgement about the real-time class."""

from appliance.osutil import scheduling


def refusal(pid: int = 0) -> str:
    """Why process ``pid`` (0: this one) may not have a real-time class, "" when it may."""
    return scheduling.realtime_refusal(scheduling.look(pid=pid))
