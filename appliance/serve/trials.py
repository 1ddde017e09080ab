"""Candidates beside active versions, as a front-end has them: which calls are a comparison's, and what came of them.

Everything here is asked only while there is a comparison: ``Trials.current`` is None else. A failure of a candidate is
never a caller's: the active version then answers, unless the client has seen a part of the answer, or its time is over.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from appliance.comparison import Beside, Mode, Tally
from appliance.control import Route, RouteTable
from appliance.errors import ApplianceError, Code
from appliance.serve.likeness import Likeness
from appliance.types import ModelSignature
from appliance.worker.instances import number_of
from appliance.worker.latency import bucket_of

T = TypeVar("T")


class Named(Protocol):
    """A request that names a model, and a version or ""."""

    model_name: str
    model_version: str


# Rounding of so many added shares must not cost a call.
_NEARLY = 1 - 1e-9
_OVER = (Code.CANCELLED, Code.DEADLINE_EXCEEDED)
# The candidate isn't there, or has too much to do: that says nothing about its answers.
_PASSING_REASONS = ("MODEL_NOT_READY", "VERSION_UNKNOWN", "MODEL_UNKNOWN", "ENGINE_DOWN")
# The fault is the version's whatever another one makes of the call.
_OWN_REASONS = ("ENGINE_DIED",)
_SEQUENCE_ELSEWHERE = "SEQUENCE_UNKNOWN"


class Trial:
    """One comparison. Thread-safe."""

    def __init__(self, route: Route, beside: Beside) -> None:
        self.name = route.name
        self.active = route.version
        self.signature: ModelSignature | None = route.signature
        self.beside = beside
        self.canary = beside.mode is Mode.CANARY
        # It has left the table: copies of its calls are of no use any more.
        self.over = False
        self._share = min(1.0, max(0.0, beside.percent / 100))
        self._lock = threading.Lock()
        # The shares of all calls until now that no whole call was taken for: exactly that share of any number is taken.
        self._credit = 0.0
        self._tally = Tally(beside.number)

    # --- whose call is it? -------------------------------------------------------------------------------------------

    def passes(self) -> bool:
        """Whether a plain call has nothing to do with the comparison; if it has, ``take`` is to be asked of it."""
        with self._lock:
            if self._credit + self._share >= _NEARLY:
                return False
            self._credit += self._share
            self._tally.offered += 1
            return True

    def take(self, sticky: str = "") -> bool:
        """Whether a call is the comparison's. All calls of a sequence are, or none, in every front-end alike."""
        with self._lock:
            self._tally.offered += 1
            if sticky:
                if not self.canary:
                    self._tally.skipped += 1
                    return False
                taken = number_of(sticky) < self._share * 2**64
            else:
                self._credit += self._share
                taken = self._credit >= _NEARLY
                self._credit -= taken
            self._tally.taken += taken
            return taken

    def answered(self, on: Callable[[str], T], sticky: str = "") -> T:
        """What ``on(version)`` returns, of the candidate or the active version ("") as it must be."""
        if not self.canary:
            return on("")
        try:
            answer = on(self.beside.version)
        except ApplianceError as error:
            self._check_again(error, sticky)
            failed = error
        else:
            return answer
        answer = on("")
        self._retried(failed)
        return answer

    def streamed(self, on: Callable[[str], Iterator[T]], sticky: str = "") -> Iterator[T]:
        """The same of an answer in pieces: when the first one is out, it is too late for another version's."""
        if not self.canary:
            yield from on("")
            return
        begun = False
        failed: ApplianceError | None = None
        try:
            for piece in on(self.beside.version):
                begun = True
                yield piece
        except ApplianceError as error:
            if begun:
                if error.code not in _OVER:
                    self.candidate_failed()
                raise
            self._check_again(error, sticky)
            failed = error
        if failed is not None:
            yield from on("")
            self._retried(failed)

    def _check_again(self, error: ApplianceError, sticky: str = "") -> None:
        """Returns when the call may go to the active version; raises the error when not."""
        if error.code in _OVER:
            raise error
        if error.code is Code.INTERNAL or error.reason in _OWN_REASONS:
            self.candidate_failed()
        if sticky and error.reason not in (_SEQUENCE_ELSEWHERE, *_PASSING_REASONS):
            raise error  # the sequence lives on the candidate: the active version knows nothing of it

    def _retried(self, error: ApplianceError) -> None:
        """The active version could do what the candidate could not."""
        passing = error.code is Code.RESOURCE_EXHAUSTED or error.reason in (*_PASSING_REASONS, _SEQUENCE_ELSEWHERE)
        with self._lock:
            self._tally.retried += 1
            if not (passing or error.code is Code.INTERNAL or error.reason in _OWN_REASONS):
                self._tally.candidate.failed += 1

    # --- what came of it ---------------------------------------------------------------------------------------------

    def other(self, version: str) -> str:
        """The version that a copy of a call goes to that ``version`` has answered; "": there is to be none."""
        if self.canary:
            return self.active if version == self.beside.version else ""
        return self.beside.version if version == self.active else ""

    def candidate_failed(self) -> None:
        """By its own fault."""
        with self._lock:
            self._tally.candidate.failed += 1

    def count_answer(self, version: str, tokens: int = 0, text_ns: int = 0) -> None:
        """A call, or a copy of one, was answered."""
        with self._lock:
            side = self._tally.candidate if version == self.beside.version else self._tally.active
            side.calls += 1
            side.tokens += tokens
            side.text_ns += text_ns

    def count_skipped(self) -> None:
        """A call of the comparison can't be copied."""
        with self._lock:
            self._tally.skipped += 1

    def count_dropped(self) -> None:
        """A copy was not made, as there was no room."""
        with self._lock:
            self._tally.dropped += 1

    def count_pair(self, active_ns: int, candidate_ns: int, like: Likeness | None) -> None:
        """Both have answered the same call, after so long; ``like`` None: with texts, see ``count_texts``."""
        with self._lock:
            tally = self._tally
            tally.pairs += 1
            for side, took_ns in ((tally.active, active_ns), (tally.candidate, candidate_ns)):
                bucket = bucket_of(max(0, took_ns) // 1000)
                side.latency[bucket] = side.latency.get(bucket, 0) + 1
            if like is None:
                return
            tally.unlike += not like.alike
            if like.agree is not None or not like.alike:
                tally.classified += 1
                tally.agreed += bool(like.agree) and like.alike
            if like.distance is not None:
                tally.numeric += 1
                tally.distance_max = max(tally.distance_max, like.distance)
                tally.relative_max = max(tally.relative_max, like.relative)
                tally.relative_sum += like.relative

    def count_texts(self, active_first_ns: int, candidate_first_ns: int, same: bool) -> None:
        """Both have said their text, the first piece of it after so long."""
        with self._lock:
            tally = self._tally
            tally.texts += 1
            tally.same_texts += same
            for side, first_ns in ((tally.active, active_first_ns), (tally.candidate, candidate_first_ns)):
                bucket = bucket_of(max(0, first_ns) // 1000)
                side.first[bucket] = side.first.get(bucket, 0) + 1

    def told(self) -> Tally | None:
        """What was counted since the last time; None when there was nothing."""
        with self._lock:
            tally, self._tally = self._tally, Tally(self.beside.number)
        return tally if tally.offered or tally.pairs or tally.dropped or tally.candidate != Tally().candidate else None


class Trials:
    """All comparisons of this front-end. ``current`` None: there are none, which is all that a usual call looks at."""

    def __init__(self) -> None:
        self.current: dict[str, Trial] | None = None
        # Of comparisons that have left the table: calls and copies may still end.
        self._past: list[Trial] = []

    def apply(self, table: RouteTable) -> None:
        """Follows the routing table. Control thread only."""
        before = self.current or {}
        found: dict[str, Trial] = {}
        for route in table.routes:
            beside = route.beside
            if beside is not None and route.active:
                known = before.get(route.name)
                same = known is not None and (known.beside, known.active) == (beside, route.version)
                found[route.name] = known if known is not None and same else Trial(route, beside)
        self._past = [trial for trial in before.values() if trial not in found.values()]
        for trial in self._past:
            trial.over = True
        self.current = found or None

    def of(self, name: str, version: str, sticky: str = "") -> Trial | None:
        """The comparison that a call belongs to; None for most calls."""
        current = self.current
        if current is None or version:
            return None
        trial = current.get(name)
        return trial if trial is not None and trial.take(sticky) else None

    def pass_by(self, request: Named) -> bool:
        """Whether a plain request, which is in no sequence, has nothing to do with any comparison; see Trial.passes."""
        trial = (self.current or {}).get(request.model_name)
        return trial is None or request.model_version != "" or trial.passes()

    def take_tallies(self) -> tuple[Tally, ...]:
        """What was counted since the last time, by comparison."""
        current = self.current or {}
        told = [trial.told() for trial in (*current.values(), *self._past)]
        return tuple(tally for tally in told if tally is not None)
