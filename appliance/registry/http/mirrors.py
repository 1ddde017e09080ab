"""Several registries as one Source: the first that has it. Content is checked by digest, so any of them will do."""

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from appliance import events, limits
from appliance.clock import Clock, SystemClock
from appliance.errors import ApplianceError
from appliance.registry.sources.base import Blob, Fetched, Source
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable

T = TypeVar("T")
_REMEMBERED_MAX = 256
# What one of them failing means for the others: nothing, ask the next. In the order in which it is told when all have
# failed: what may pass by itself, what was sent and is wrong, what an operator must set right, what there is not.
_FAILURES = (Unreachable, Malformed, Refused, Absent)

_log = logging.getLogger(__name__)


class Mirrors:
    """``sources`` in the order of preference; who failed within the last minutes is asked behind the others.

    Several threads may fetch from it.
    """

    def __init__(self, sources: Sequence[Source], clock: Clock = SystemClock()) -> None:  # noqa: B008 - stateless
        if not sources:
            raise ValueError("no mirrors")
        self.name = ", ".join(source.name for source in sources)
        self._sources = list(sources)
        self._clock = clock
        # By place in the list: until when the mirror is asked last.
        self._paused_ns = [0] * len(sources)
        # An ETag means nothing to another server than the one that gave it: the last one to answer, by repository.
        self._answered: dict[tuple[str, str], Source] = {}
        # Which mirror sent a blob last without breaking off.
        self._sent: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        """As base.Source."""

        def ask(source: Source, known: str) -> Fetched | None:
            return source.manifest(repository, reference, bytes_max=bytes_max, validator=known)

        return self._first(ask, (repository, reference), validator)[1]

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> Blob:
        """As base.Source. A blob is named by its content: another mirror may send the rest of it."""

        def ask(source: Source, known: str) -> Blob:
            return source.blob(repository, digest, offset=offset, length=length, validator=known)

        key = (repository, digest)
        with self._lock:
            refused = self._sent.pop(key, None)
        if refused is not None and offset == 0 and length is None:
            # Asked for once more from its beginning: what that mirror sent was not right.
            self._pause(refused)
        place, stream = self._first(ask, key, validator)
        return _Watched(stream, functools.partial(self._ended, key, place))

    def tags(self, repository: str) -> Sequence[str]:
        """As base.Source; of the first mirror that answers and has any."""
        failures: list[ApplianceError] = []
        for place in self._order():
            try:
                if found := self._sources[place].tags(repository):
                    return found
            except _FAILURES as error:
                self._failed(place, error)
                failures.append(error)
        if failures:
            raise _told(failures)
        return []

    def _ended(self, key: tuple[str, str], place: int, broke: bool) -> None:
        if broke:
            self._pause(place)
            return
        self._remember(self._sent, key, place)

    def _first(self, ask: Callable[[Source, str], T], key: tuple[str, str], validator: str) -> tuple[int, T]:
        failures: list[ApplianceError] = []
        for place in self._order():
            source = self._sources[place]
            try:
                answer = ask(source, validator if self._answered.get(key, source) is source else "")
            except _FAILURES as error:
                self._failed(place, error)
                failures.append(error)
                continue
            self._remember(self._answered, key, source)
            return place, answer
        raise _told(failures)

    def _failed(self, place: int, error: ApplianceError) -> None:
        if isinstance(error, Absent):
            return
        if isinstance(error, (Refused, Malformed)) and not self._is_paused(place):
            # It doesn't pass by itself, and where another one answers nobody else would tell of it.
            _log.warning(
                "%s is passed over: %s", self._sources[place].name, error, extra=events.REGISTRY_PASSED_OVER.of()
            )
        self._pause(place)

    def _remember(self, known: dict[tuple[str, str], T], key: tuple[str, str], what: T) -> None:
        """The oldest of what is remembered is forgotten, when that is too much."""
        with self._lock:
            if len(known) >= _REMEMBERED_MAX:
                known.pop(next(iter(known)))
            known[key] = what

    def _pause(self, place: int) -> None:
        self._paused_ns[place] = self._clock.monotonic_ns() + limits.http_mirror_pause_s * 1_000_000_000

    def _is_paused(self, place: int) -> bool:
        return self._paused_ns[place] > self._clock.monotonic_ns()

    def _order(self) -> list[int]:
        return sorted(range(len(self._sources)), key=lambda place: (self._is_paused(place), place))


def _told(failures: list[ApplianceError]) -> ApplianceError:
    """One failure for all mirrors', none of them empty: the first of the kind that is told first, in the words of all."""
    kind = next(kind for kind in _FAILURES if any(isinstance(each, kind) for each in failures))
    first = next(each for each in failures if isinstance(each, kind))
    words = dict.fromkeys(str(each) for each in (first, *failures) if each is first or not isinstance(each, Absent))
    if len(words) == 1:
        return first
    text = "; ".join(words)
    if isinstance(first, Unreachable):
        return Unreachable(text, reason=first.reason, retry_after_s=first.retry_after_s)
    return kind(text, reason=first.reason)


class _Watched:
    """A blob that tells how its sender did. ``ended(broke)``."""

    def __init__(self, blob: Blob, ended: Callable[[bool], None]) -> None:
        self.offset = blob.offset
        self.validator = blob.validator
        self._blob = blob
        self._ended = ended
        self._broke = False

    def read(self, size: int) -> bytes:
        try:
            return self._blob.read(size)
        except _FAILURES:
            self._broke = True
            raise

    def __enter__(self) -> Blob:
        self._blob.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._blob.__exit__(*_)
        self._ended(self._broke)
