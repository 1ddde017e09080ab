"""What the service manager is told, as follows from how the daemon stands: decided here, sent by service.py.

READY=1 once, when clients are really served; then STATUS= changes, and a required model that goes missing is said there.
WATCHDOG=1 and, until ready, EXTEND_TIMEOUT_USEC= are told only while every part proves that its work loop turns.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from appliance import limits
from appliance.types import ModelState

_ON_THE_WAY = (ModelState.LOADING, ModelState.RESTARTING)


class Facts(NamedTuple):
    """How the daemon stands. ``known``: the store has been read. ``models``: by name, None without an engine.

    ``missing``: required models that take no calls; ``silent``: parts that give no proof of life.
    """

    addresses: tuple[str, ...] = ()
    known: bool = False
    models: Mapping[str, ModelState | None] = {}
    missing: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether clients find what they were promised."""
        return bool(self.addresses) and self.known and not self.missing


class ServiceState:
    """What has been told, and what is to be told next. The lines are those of sd_notify(3)."""

    def __init__(self, watchdog: bool) -> None:
        self._watchdog = watchdog
        self._status = ""
        self._trouble = ""
        self._reloading = False
        self.ready = False

    def lines(self, facts: Facts) -> list[str]:
        """What is to be told now; to be asked about once a second, and at each change."""
        # A reload tells its end itself: nothing that is told before may look like it.
        told = [] if self._reloading else self._news(facts)
        if not facts.silent:
            if self._watchdog:
                told.append("WATCHDOG=1")
            if not self.ready:
                told.append(f"EXTEND_TIMEOUT_USEC={limits.service_start_extension_ms * 1000}")
        return told

    def _news(self, facts: Facts) -> list[str]:
        told = []
        if facts.serves and not self.ready:
            self.ready = True
            told.append("READY=1")
        status = sentence(facts) + self._trouble
        if status != self._status:
            self._status = status
            told.append(f"STATUS={status}")
        return told

    def reloading(self, monotonic_ns: int) -> list[str]:
        """A reload begins. Before the service is ready that is nobody's business: its end would say that it is."""
        self._reloading, self._status = True, "reloading the configuration and the certificates"
        if not self.ready:
            return []
        return ["RELOADING=1", f"MONOTONIC_USEC={monotonic_ns // 1000}", f"STATUS={self._status}"]

    def reloaded(self, trouble: str) -> list[str]:
        """It is over; ``trouble``: what isn't in force, told until the next reload."""
        self._reloading = False
        self._trouble = _one_line(f"; {trouble}") if trouble else ""
        return ["READY=1"] if self.ready else []

    def stopping(self, seconds: float) -> list[str]:
        """The stop begins, and takes up to so many seconds."""
        self._status = f"stopping: running calls may finish within {seconds:g} s"
        usec = int(seconds * 1_000_000) + limits.service_stop_extension_ms * 1000
        return ["STOPPING=1", f"STATUS={self._status}", f"EXTEND_TIMEOUT_USEC={usec}"]


def silent(proven_ms: Mapping[str, int], now_ms: int) -> tuple[str, ...]:
    """The parts whose last proof of life is too old; both times on CLOCK_MONOTONIC."""
    return tuple(part for part, at_ms in proven_ms.items() if now_ms - at_ms > limits.proof_of_life_ms_max)


def sentence(facts: Facts) -> str:
    """How the daemon stands, for `systemctl status`: "2 of 3 models are ready; loading smollm2"."""
    if not facts.known:
        text = "starting: the model store is being read"
    elif not facts.addresses:
        text = "starting: no front-end listens yet"
    else:
        text = _of_models(facts)
    if facts.silent:
        text += f"; no sign of life from {_names(facts.silent)}"
    return _one_line(text)


def _of_models(facts: Facts) -> str:
    models = facts.models
    if not models:
        return f"listening on {facts.addresses[0]}, without a model: `appliance models add` brings one"
    ready = sum(state is ModelState.READY for state in models.values())
    loading = [name for name, state in models.items() if state in _ON_THE_WAY]
    absent = [name for name, state in models.items() if state is not ModelState.READY and name not in loading]
    if ready == len(models):
        return f"serving {ready} model{'s' if ready > 1 else ''} on {facts.addresses[0]}"
    text = f"{ready} of {len(models)} models are ready" if len(models) > 1 else "the only model is not ready"
    if loading:
        text += f"; loading {_names(loading)}"
    if absent:
        text += f"; not available: {_names(absent)} (`appliance status` says why)"
    if facts.missing:
        text += f"; required: {_names(facts.missing)}"
    return text


def _names(names: Sequence[str] | Collection[str]) -> str:
    """The first few of them."""
    first = list(names)[: limits.service_status_names_max]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _one_line(text: str) -> str:
    """A line break would begin another assignment."""
    line = " ".join(text.split())
    return line if len(line) <= limits.service_status_chars_max else line[: limits.service_status_chars_max - 3] + "..."
