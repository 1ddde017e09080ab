"""How long a call that comes now will wait, from how long calls have stayed: told to whoever is refused."""

_WEIGHT = 0.1


class Expectation:
    """An average over the calls that ended, recent ones weighing more."""

    def __init__(self) -> None:
        self._stay_ns = 0.0

    def ended(self, started_ns: int, ended_ns: int) -> None:
        """A call ran from ``started_ns`` to ``ended_ns``."""
        stay = float(ended_ns - started_ns)
        self._stay_ns = stay if not self._stay_ns else self._stay_ns + _WEIGHT * (stay - self._stay_ns)

    def wait_ns(self, ahead: int, running: int) -> int:
        """Until a call starts that has ``ahead`` before it in the line, while ``running`` are computed together.

        0 as long as no call has ended: nothing is known then.
        """
        return int(self._stay_ns * (ahead + 1) / max(1, running))


def in_words(ns: int) -> str:
    """A duration as a person says it: "0.3 s", "12 s", "4 min"."""
    seconds = ns / 1e9
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
