"""Which lines are written and which only counted. Pure: it is told the time, and does nothing itself."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Held(Generic[Key]):
    """So many ``lines`` that count for ``key`` were not written within ``span_ms``."""

    key: Key
    lines: int
    span_ms: int


@dataclass
class _Window:
    began_ms: int
    written: int = 0
    held: int = 0


class Flood(Generic[Key]):
    """So many lines of a key pass in a window that begins with the first of them; the rest is counted.

    Times are of a clock that never goes back, in milliseconds. Memory is bounded by the widest key's bound: only lines
    that are written begin windows.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        # In the order in which they began, which is that in which they end.
        self._windows: dict[Key, _Window] = {}
        self._ended: list[Held[Key]] = []

    def admit(self, bounds: Sequence[tuple[Key, int]], now_ms: int) -> Key | None:
        """None: the line is written now. Else the first key whose bound is met, for which it is counted.

        ``bounds``: what the line counts for, the narrowest first. A line that is held back takes no other line's place:
        it counts for no other key.
        """
        self._end(now_ms)
        for key, most in bounds:
            window = self._windows.get(key)
            if window is not None and window.written >= most:
                window.held += 1
                return key
        for key, _ in bounds:
            self._windows.setdefault(key, _Window(now_ms)).written += 1
        return None

    def ended(self, now_ms: int) -> list[Held[Key]]:
        """What was held back in windows that are over; each is told once."""
        self._end(now_ms)
        told, self._ended = self._ended, []
        return told

    def close(self, now_ms: int) -> list[Held[Key]]:
        """The same for all windows, which end with this."""
        told = self.ended(now_ms)
        for key, window in self._windows.items():
            if window.held:
                told.append(Held(key, window.held, now_ms - window.began_ms))
        self._windows.clear()
        return told

    def next_end_ms(self) -> int | None:
        """When the next window ends that has something to tell; None: none has."""
        return next((w.began_ms + self._window_ms for w in self._windows.values() if w.held), None)

    def _end(self, now_ms: int) -> None:
        while self._windows:
            key, window = next(iter(self._windows.items()))
            if now_ms < window.began_ms + self._window_ms:
                return
            del self._windows[key]
            if window.held:
                self._ended.append(Held(key, window.held, self._window_ms))
