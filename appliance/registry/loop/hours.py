"""When models may be changed: the configuration's maintenance windows against this machine's clock."""

from collections.abc import Sequence

from appliance.clock import Clock
from appliance.registry.sync import windows
from appliance.windows import parse


class Hours:
    """``texts``: as in registry.windows, right by its rules; none: always."""

    def __init__(self, texts: Sequence[str], clock: Clock) -> None:
        self._windows = [parse(text) for text in texts]
        self._clock = clock

    def opens_s(self) -> int:
        """0 while models may be changed, else when the next window opens (Unix time)."""
        if not self._windows:
            return 0
        # The zone is read anew: an administrator may set it while the daemon runs.
        now_s, zone = self._clock.wall_ns() // 10**9, windows.machine_zone()
        if windows.is_open(self._windows, now_s, zone):
            return 0
        return windows.opens_s(self._windows, now_s, zone) or now_s
