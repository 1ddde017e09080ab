"""Which lines are written and which only counted. Pure: it is told the time, and does nothing itself."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Held(Generic[Key]):
    """``count`` lines of kind ``key`` (None: of all kinds) were not written within ``span_ms``."""

    key: Key | None
    count: int
    span_ms: int


@dataclass
class _Window:
    began_ms: int
    written: int = 0
    held: int = 0


class Flood(Generic[Key]):
    """A burst of each kind, and so many lines in all, pass in each window; the rest is counted.

    A window begins with the first line of its kind. Times are of any clock that never goes back, in milliseconds.
    """

    def __init__(self, *, burst: int, window_ms: int, lines_max: int, kinds_max: int) -> None:
        self._burst = burst
        self._window_ms = window_ms
        self._lines_max = lines_max
        self._kinds_max = kinds_max
        # In the order in which they began, which is that in which they end.
        self._kinds: dict[Key, _Window] = {}
        self._all: _Window | None = None
        self._ended: list[Held[Key]] = []

    def admit(self, key: Key, now_ms: int) -> bool:
        """Whether a line of this kind is written now."""
        self._end(now_ms)
        if self._all is None:
            self._all = _Window(now_ms)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= self._kinds_max:
                oldest = next(iter(self._kinds))
                self._close(oldest, self._kinds.pop(oldest), now_ms)
            kind = self._kinds[key] = _Window(now_ms)
        if kind.written >= self._burst:
            kind.held += 1
            return False
        if self._all.written >= self._lines_max:
            self._all.held += 1
            return False
        kind.written += 1
        self._all.written += 1
        return True

    def ended(self, now_ms: int) -> list[Held[Key]]:
        """What was held back in windows that are over; each is told once."""
        self._end(now_ms)
        told, self._ended = self._ended, []
        return told

    def close(self, now_ms: int) -> list[Held[Key]]:
        """The same for all windows, which end with this."""
        while self._kinds:
            key = next(iter(self._kinds))
            self._close(key, self._kinds.pop(key), now_ms)
        if self._all is not None:
            self._close(None, self._all, now_ms)
            self._all = None
        return self.ended(now_ms)

    def next_end_ms(self) -> int | None:
        """When the next window ends that has something to tell; None: none has."""
        begins = [window.began_ms for window in self._kinds.values() if window.held]
        if self._all is not None and self._all.held:
            begins.append(self._all.began_ms)
        return min(begins) + self._window_ms if begins else None

    def _end(self, now_ms: int) -> None:
        over_ms = now_ms - self._window_ms
        while self._kinds:
            key, window = next(iter(self._kinds.items()))
            if window.began_ms > over_ms:
                break
            self._close(key, self._kinds.pop(key), window.began_ms + self._window_ms)
        if self._all is not None and self._all.began_ms <= over_ms:
            self._close(None, self._all, self._all.began_ms + self._window_ms)
            self._all = None

    def _close(self, key: Key | None, window: _Window, end_ms: int) -> None:
        if window.held:
            self._ended.append(Held(key, window.held, end_ms - window.began_ms))
