"""Who waits, who runs, and who has to give way: calls from the line to a seat in the cache, and out of it again."""

from collections.abc import Iterator

from appliance import limits
from appliance.clock import Clock
from appliance.engine.llama.accounts import Accounts
from appliance.engine.llama.cache.follow import worth_waiting
from appliance.engine.llama.cache.kv_cache import KvCache
from appliance.engine.llama.guesses import Guesses
from appliance.engine.llama.schedule.expectation import Expectation
from appliance.engine.llama.schedule.line import Line
from appliance.engine.llama.sequence import Sequence
from appliance.engine.llama.waiting import expired, gone, too_late
from appliance.errors import ApplianceError, ResourceExhausted


class Roster:
    """Owns the line and the running sequences. ``together``: the most that may run at a time."""

    def __init__(self, cache: KvCache, guesses: Guesses, clock: Clock, accounts: Accounts, together: int) -> None:
        self.line: Line[Sequence] = Line()
        self.running: list[Sequence] = []
        self.cache = cache
        self.expectation = Expectation()
        self._guesses = guesses
        self._clock = clock
        self._accounts = accounts
        self._together = together
        self._short_of_room = False

    def everybody(self) -> Iterator[Sequence]:
        """Running, then waiting."""
        yield from self.running
        yield from self.line

    def has_work(self) -> bool:
        """Whether a step would do anything. Streams that wait for their readers are no work, until they are overdue."""
        if not all(s.reply.backlogged for s in self.everybody()):
            return True
        now = self._clock.monotonic_ns()
        return any(self.over(s, now) or not s.waits_for_reader_since_ns or _overdue(s, now) for s in self.everybody())

    @property
    def full(self) -> bool:
        """Whether who waits does so for a place or for room, and not only for the next step."""
        return self._short_of_room or len(self.running) >= self._together

    # --- letting go --------------------------------------------------------------------------------------------------

    @staticmethod
    def over(sequence: Sequence, now: int) -> bool:
        """Whether nobody wants this answer any more."""
        return gone(sequence, now) or not sequence.answers.left

    def sweep(self) -> None:
        """Lets go of every call that nobody waits for any more, or whose reader has kept it waiting for too long."""
        now = self._clock.monotonic_ns()
        for sequence in list(self.everybody()):
            if self.over(sequence, now):
                self._let_go(sequence)
            elif not sequence.reply.backlogged:
                sequence.waits_for_reader_since_ns = 0
            elif not sequence.waits_for_reader_since_ns:
                sequence.waits_for_reader_since_ns = now
            elif _overdue(sequence, now):
                self.fail(sequence, ResourceExhausted("the client reads its stream too slowly", reason="SLOW_READER"))

    def _let_go(self, sequence: Sequence) -> None:
        where = "while the answer was computed" if sequence.started_ns else "in the queue"
        self.release(sequence)
        if not sequence.answers.left:
            return  # another answer to the same call ended it, and was counted then
        if expired(sequence, self._clock.monotonic_ns()):
            self._accounts.failed(sequence.reply.arrived_ns)
            sequence.answers.fail(too_late(where))
        else:
            self._accounts.cancelled()
            sequence.answers.left = 0

    def fail(self, sequence: Sequence, error: ApplianceError) -> None:
        """Ends the call of ``sequence``, all its answers, with an error."""
        self.release(sequence)
        if sequence.answers.left:
            self._accounts.failed(sequence.reply.arrived_ns)
            sequence.answers.fail(error)

    def finish(self, sequence: Sequence, reason: str) -> None:
        """Ends an answer well."""
        now = self._clock.monotonic_ns()
        self.release(sequence)
        self.expectation.ended(sequence.started_ns, now)
        self._accounts.tokens(0 if sequence.index else sequence.prompt_tokens, sequence.generated)
        if sequence.done(reason, now):
            self._accounts.succeeded(sequence.reply.arrived_ns, sequence.started_ns)

    def release(self, sequence: Sequence) -> None:
        """Takes a sequence out; what it has computed stays in the cache for prompts that begin the same."""
        if sequence.seat:
            self.cache.leave(sequence.seat, sequence.tokens)
            sequence.seat = None
            self.running.remove(sequence)
        else:
            self.line.remove(sequence)
        self.line.leave(sequence.client)
        self._guesses.forget(sequence.number)
        sequence.close()

    # --- starting ----------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Starts calls from the line, in its order, while there is room."""
        self._short_of_room = False
        while True:
            leaders = [s for s in self.running if s.prefilling and not s.reply.backlogged]
            sequence = next((s for s in self.line.in_order() if self._may_start(s, leaders)), None)
            if sequence is None:
                return
            if len(self.running) >= self._together and not self._set_back_a_waiting_reader():
                return
            if not self._start(sequence):
                self._short_of_room = True
                return

    def _may_start(self, sequence: Sequence, leaders: list[Sequence]) -> bool:
        if sequence.reply.backlogged:
            return False
        same = [(s.tokens, s.position) for s in leaders if s.adapter == sequence.adapter]
        if not same or not self.cache.shares:
            return True
        return not worth_waiting(sequence.tokens, self.cache.reusable(sequence.adapter, sequence.tokens), same)

    def _start(self, sequence: Sequence) -> bool:
        while not self._has_room(sequence, self.cache.reusable(sequence.adapter, sequence.tokens)):
            if not self._set_back_a_waiting_reader():
                return False
        seat = self.cache.enter(sequence.adapter, sequence.tokens)
        if seat is None:
            return False
        # What is shared now could have been evicted before.
        if not self._has_room(sequence, seat.position):
            self.cache.leave(seat, sequence.tokens)
            return self._set_back_a_waiting_reader() and self._start(sequence)
        self.line.remove(sequence)
        self.running.append(sequence)
        sequence.seat = seat
        self.line.charge(sequence.client, sequence.waiting)
        if not sequence.started_ns:
            sequence.started_ns = self._clock.monotonic_ns()
            sequence.reused_tokens = seat.position
            self._accounts.prefix(seat.position)
        return True

    def _has_room(self, sequence: Sequence, reused: int) -> bool:
        # Prompts that run already will need their room: it is not there for others.
        promised = sum(s.waiting for s in self.running if s.prefilling)
        needed = len(sequence.tokens) - reused + min(limits.start_room_tokens, sequence.most_drafts + 1)
        return not self.running or self.cache.room - promised >= needed

    # --- giving way --------------------------------------------------------------------------------------------------

    def _set_back_a_waiting_reader(self) -> bool:
        waiting = [s for s in self.running if s.reply.backlogged]
        if waiting:
            self._set_back(waiting[-1])
        return bool(waiting)

    def set_back_the_cheapest(self) -> Sequence | None:
        """Takes the room of who waits for his reader, else of the lowest class, else of the youngest.

        He goes on later, from what is still in the cache then. None when nobody else would be left.
        """
        if len(self.running) < 2:
            return None
        cheapest = max(
            self.running,
            key=lambda s: (s.reply.backlogged, s.priority or limits.priority_default, s.started_ns, s.number),
        )
        self._set_back(cheapest)
        return cheapest

    def _set_back(self, sequence: Sequence) -> None:
        assert sequence.seat is not None
        self.cache.leave(sequence.seat, sequence.tokens)
        sequence.seat = None
        self.running.remove(sequence)
        self.line.push_back(sequence)
        self._accounts.preempted()

    def close(self) -> None:
        """Forgets every call."""
        for sequence in self.everybody():
            sequence.close()
        self.running.clear()
        self.line = Line()


def _overdue(sequence: Sequence, now: int) -> bool:
    since = sequence.waits_for_reader_since_ns
    return 0 < since <= now - limits.slow_reader_ms_max * 1_000_000
