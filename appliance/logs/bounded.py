"""The handler that stands before the real one: a burst of each kind of line passes, then one says how many more came."""

import copy
import logging
import threading
import time
from typing import Any

from appliance import limits
from appliance.logs.flood import Flood, Held

# Narrow: the event (or the logger and the text before anything is filled in), why, and the model. Wider: without model
# and reason, which clients can make up. The widest is empty: all lines.
_Kind = tuple[str, ...]
# What tells one line of a kind from another has no place in the line about many.
_OF_ONE = ("request_id", "client")


def kind_of(record: logging.LogRecord) -> _Kind:
    """Lines with the same are alike."""
    facts: dict[str, Any] = getattr(record, "facts", {})
    event = facts.get("event")
    what = (str(event), "") if event else (record.name, str(record.msg))
    return (*what, str(facts.get("error_reason") or ""), str(facts.get("model") or facts.get("part") or ""))


class Bounded(logging.Handler):
    """Passes records on to ``inner``. Debug lines are never held back: whoever asks for them wants all."""

    def __init__(self, inner: logging.Handler) -> None:
        super().__init__()
        self._inner = inner
        self._flood: Flood[_Kind] = Flood(limits.log_window_ms)
        # The first line that was held back, by what it counts for.
        self._samples: dict[_Kind, logging.LogRecord] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno <= logging.DEBUG:
            self._inner.emit(record)
            return
        now_ms, kind = _now_ms(), kind_of(record)
        bounds = ((kind, limits.log_burst), (kind[:2], limits.log_event_burst), ((), limits.log_lines_window_max))
        full = self._flood.admit(bounds, now_ms)
        self._tell(self._flood.ended(now_ms))
        if full is None:
            self._inner.emit(record)
        elif full not in self._samples:
            self._samples[full] = record
            if self._timer is None:
                self._wait(now_ms)

    def close(self) -> None:
        """Tells what is held back, and nothing later."""
        with self._own_lock():
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._tell(self._flood.close(_now_ms()))
        self._inner.close()
        super().close()

    def _own_lock(self) -> Any:
        assert self.lock is not None  # logging.Handler makes it
        return self.lock

    def _wait(self, now_ms: int) -> None:
        """Silence may follow a burst: then nobody else would say how many there were."""
        end_ms = self._flood.next_end_ms()
        if end_ms is None:
            return
        self._timer = threading.Timer(max(0, end_ms - now_ms) / 1000 + 0.01, self._over)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # no more threads: the next line tells it
            self._timer = None

    def _over(self) -> None:
        with self._own_lock():
            now_ms = _now_ms()
            self._timer = None
            self._tell(self._flood.ended(now_ms))
            self._wait(now_ms)

    def _tell(self, ended: list[Held[_Kind]]) -> None:
        for held in ended:
            self._inner.emit(_summary(held, self._samples.pop(held.key)))


def _summary(held: Held[_Kind], sample: logging.LogRecord) -> logging.LogRecord:
    span = f"{held.lines:,} more %s in {max(1, round(held.span_ms / 1000))} s"
    record = copy.copy(sample)
    record.created, record.exc_info, record.exc_text = time.time(), None, None
    facts: dict[str, Any] = {"more": held.lines}
    if held.key:
        record.msg, record.args = f"{span % 'like this'}: %s", (sample.getMessage(),)
        facts |= {key: value for key, value in getattr(sample, "facts", {}).items() if key not in _OF_ONE}
    else:
        record.msg, record.args = f"{span % 'lines of all kinds'}, not written down", ()
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    record.facts = facts
    return record


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
