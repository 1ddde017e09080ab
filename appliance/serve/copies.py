"""Copies of a comparison's calls, to the version that has not answered them: one at a time, behind everybody's back.

A copy never costs a caller more than putting it on a list: there is a bound on how many wait and what they hold, beyond
which they are dropped; it goes only to an engine with half of its places free, with the lowest priority; and the one
thread that sends them rests as long as each took, so that calls have half of the processor whatever comes.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from appliance import events, limits
from appliance.answers import AnyAnswer, EmbedDone, GenerateDone, InferDone, RerankDone, TextPiece
from appliance.calls import AnyCall, GenerateCall
from appliance.errors import ApplianceError, Code
from appliance.serve.likeness import Likeness, likeness, outputs_of
from appliance.serve.trials import Trial
from appliance.types import Buffer
from appliance.worker.lease import Lease
from appliance.worker.router import Router

_log = logging.getLogger(__name__)
_LOWEST_PRIORITY = 2**31 - 1
_NUMBERS = (InferDone, EmbedDone, RerankDone)
# What says nothing of a candidate: it had too much to do, was not there, or was given up.
_PASSING = (Code.RESOURCE_EXHAUSTED, Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.NOT_FOUND)
_DIED = "ENGINE_DIED"


class Said(NamedTuple):
    """What a version made of a call. ``body``: the answer's own bytes, kept. Times without the wait in its queue."""

    answer: AnyAnswer
    body: bytes = b""
    took_ns: int = 0
    text: str = ""
    first_ns: int = 0


class _Copy(NamedTuple):
    trial: Trial
    version: str
    call: AnyCall
    buffers: Sequence[Buffer]
    said: Said
    nbytes: int


class Copies:
    """``offer`` from any thread; the thread that sends them begins with the first one."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._waiting: deque[_Copy] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # The copy that is on its way.
        self._running: tuple[Trial, Lease] | None = None
        self._stopped = False

    def stop(self) -> None:
        """Sends no more."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()

    def tidy(self) -> None:
        """Comparisons have ended: nobody wants their copies any more, least of all an engine that is to be unloaded."""
        with self._changed:
            kept = [copy for copy in self._waiting if not copy.trial.over]
            self._waiting = deque(kept)
            self._bytes = sum(copy.nbytes for copy in kept)
            if self._running is not None and self._running[0].over:
                self._running[1].cancel()

    def offer(self, trial: Trial, version: str, call: AnyCall, buffers: Sequence[Buffer], said: Said) -> None:
        """``version`` has answered ``call``: its text or bytes were kept by the caller. Returns at once."""
        other = trial.other(version)
        if not other:
            return
        nbytes = sum(map(len, buffers)) + len(said.body) + len(said.text)
        if nbytes > limits.copy_bytes_max:
            trial.count_skipped()
            return
        with self._changed:
            full = len(self._waiting) >= limits.copies_waiting_max or self._bytes + nbytes > limits.copies_bytes_max
            if not full and not self._stopped:
                self._waiting.append(_Copy(trial, other, call, buffers, said, nbytes))
                self._bytes += nbytes
                self._begin()
                self._changed.notify()
                return
        trial.count_dropped()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="copies", daemon=True)
            self._thread.start()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                copy = self._waiting.popleft()
                self._bytes -= copy.nbytes
            began = time.monotonic()
            try:
                self._one(copy)
            except Exception:  # nobody waits for it
                facts = events.INTERNAL_FAULT.of(model=copy.trial.name)
                _log.exception("a copy of a call of '%s' could not be compared", copy.trial.name, extra=facts)
                copy.trial.count_dropped()
            with self._changed:
                self._running = None
            del copy
            time.sleep(min(limits.copy_rest_s_max, time.monotonic() - began))

    def _one(self, copy: _Copy) -> None:
        trial = copy.trial
        if self._router.crowded(trial.name, copy.version):
            trial.count_dropped()
            return
        deadline_ns = time.monotonic_ns() + limits.copy_seconds_max * 1_000_000_000
        call = msgspec.structs.replace(copy.call, deadline_ns=deadline_ns, priority=_LOWEST_PRIORITY)
        try:
            with Lease(self._router, trial.name, copy.version) as lease:
                with self._changed:
                    self._running = trial, lease
                if trial.over:
                    return
                said = _ask(lease, call, copy.buffers)
        except ApplianceError as error:
            self._failed(copy, error)
            return
        self._answered(copy, said)

    def _failed(self, copy: _Copy, error: ApplianceError) -> None:
        """The other version could answer this call, so a candidate that can't is worse."""
        passing = error.code in _PASSING or (error.code is Code.UNAVAILABLE and error.reason != _DIED)
        if passing or copy.version != copy.trial.beside.version:
            copy.trial.count_dropped()
        else:
            copy.trial.candidate_failed()

    def _answered(self, copy: _Copy, said: Said) -> None:
        trial = copy.trial
        count(trial, copy.version, said)
        active, candidate = (said, copy.said) if copy.version == trial.active else (copy.said, said)
        if isinstance(said.answer, _NUMBERS):
            trial.count_pair(active.took_ns, candidate.took_ns, _likeness(trial, active, candidate))
        else:
            trial.count_pair(active.took_ns, candidate.took_ns, None)
            trial.count_texts(active.first_ns, candidate.first_ns, active.text == candidate.text)


def _likeness(trial: Trial, active: Said, candidate: Said) -> Likeness:
    outputs = outputs_of(active.answer, active.body), outputs_of(candidate.answer, candidate.body)
    return likeness(trial.signature, *outputs)


def count(trial: Trial, version: str, said: Said) -> None:
    """Counts what a version answered."""
    done = said.answer
    tokens = done.completion_tokens if isinstance(done, GenerateDone) else 0
    trial.count_answer(version, tokens, said.took_ns if tokens else 0)


def queued_ns(answer: AnyAnswer) -> int:
    """How long the call waited in the engine's queue, where its answer tells."""
    return answer.queue_ns if isinstance(answer, (InferDone, GenerateDone)) else 0


def _ask(lease: Lease, call: AnyCall, buffers: Sequence[Buffer]) -> Said:
    began = time.monotonic_ns()
    if not isinstance(call, GenerateCall):
        answer, body = lease.exchange(call, buffers)
        return Said(answer, bytes(body), time.monotonic_ns() - began - queued_ns(answer))
    listening = Listening(began)
    for answer, _ in lease.stream(call, buffers):
        listening.hear(answer)
    return listening.said(answer)


class Listening:
    """A text as it comes."""

    __slots__ = ("_began_ns", "_chars", "_first_ns", "_pieces")

    def __init__(self, began_ns: int) -> None:
        self._began_ns = began_ns
        self._first_ns = 0
        self._chars = 0
        self._pieces: list[str] = []

    def hear(self, answer: AnyAnswer) -> None:
        """One more answer of the stream."""
        self._first_ns = self._first_ns or time.monotonic_ns()
        if isinstance(answer, TextPiece) and self._chars < limits.compare_text_chars_max:
            self._chars += len(answer.text)
            self._pieces.append(answer.text)

    def said(self, last: AnyAnswer) -> Said:
        """All of it; ``last`` was the final answer."""
        queued = queued_ns(last)
        took = time.monotonic_ns() - self._began_ns - queued
        return Said(last, b"", took, "".join(self._pieces), self._first_ns - self._began_ns - queued)
