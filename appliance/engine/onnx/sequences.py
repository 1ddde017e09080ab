"""The sequences of a stateful model: which live, what each carries, and what a call of one needs and leaves.

A sequence is a client and the id that it chose: two clients that choose the same id have two sequences. A start makes a
sequence anew; calls of the old one that still wait end on the old one. Its states are read when its call runs, so that
calls of one sequence that wait together each see what the one before left. A call that fails leaves them as they were,
and a start that fails leaves no sequence: whatever goes on from it is told.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from appliance import limits
from appliance.calls import InferCall
from appliance.engine.arrays import Array
from appliance.engine.onnx.sequence_ids import identity_of, shown, unknown
from appliance.engine.onnx.states import RowsOf, State
from appliance.errors import InternalError, InvalidArgument, ResourceExhausted
from appliance.model_spec import SequenceOptions

Key = tuple[str, int | str]


class _Sequence:
    """``states`` by input, None until the first call has run. ``waiting`` calls have a ticket; ``ending``: the last."""

    __slots__ = ("ending", "key", "nbytes", "rows", "states", "used_ns", "waiting")

    def __init__(self, key: Key, rows: int, nbytes: int, now_ns: int) -> None:
        self.key = key
        self.rows = rows
        self.nbytes = nbytes
        self.used_ns = now_ns
        self.states: dict[str, Array] | None = None
        self.waiting = 0
        self.ending = False


class Ticket:
    """A call's place in its sequence. Ends with ``keep`` or ``drop``, whichever is called first."""

    __slots__ = ("_ended", "_ends", "_sequence", "_starts", "_table")

    def __init__(self, table: "Sequences", sequence: _Sequence, starts: bool, ends: bool) -> None:
        self._table = table
        self._sequence = sequence
        self._starts = starts
        self._ends = ends
        self._ended = False

    @property
    def key(self) -> Key:
        """Which sequence; calls of one key run one after the other, in the order in which they came."""
        return self._sequence.key

    def states(self) -> dict[str, Array]:
        """Input name -> array, not to be written to; to be asked for when the call runs.

        Raises InvalidArgument SEQUENCE_UNKNOWN when the sequence didn't outlive the calls before.
        """
        if self._starts:
            return self._table.fresh(self._sequence.rows)
        if self._sequence.states is None:
            raise unknown(self._sequence.key[1], "its start failed")
        return self._sequence.states

    def keep(self, outputs: Mapping[str, Array]) -> None:
        """Takes the states out of the outputs of this call's rows, by name.

        Raises InternalError SEQUENCE_STATE for a shape that the next call couldn't begin with, ResourceExhausted
        SEQUENCE_MEMORY when the states of all sequences grew too large; the call has then failed.
        """
        if self._ended:
            return
        try:
            self._table.keep(self._sequence, outputs)
        except BaseException:
            self.drop()
            raise
        self._ended = True
        self._table.leave(self._sequence, gone=self._ends)

    def drop(self) -> None:
        """The call ended without a run that succeeded."""
        if self._ended:
            return
        self._ended = True
        if self._ends:
            self._sequence.ending = False
        self._table.leave(self._sequence, gone=self._starts)


class Sequences:
    """The table. All calls come from the engine's thread; ``now`` is CLOCK_MONOTONIC in nanoseconds."""

    def __init__(
        self,
        states: Sequence[State],
        options: SequenceOptions,
        now: Callable[[], int],
        rows_of: RowsOf = RowsOf(),  # noqa: B008  # frozen
        *,
        bytes_max: int = limits.sequence_states_bytes_max,
    ) -> None:
        self._states = tuple(states)
        self._inputs = tuple(state.input for state in states)
        self._rows_of = rows_of
        self._now = now
        self._idle_ns = int(options.idle_seconds_max * 1e9)
        self._options = options
        self._bytes_max = bytes_max
        # The longest unused first.
        self._live: OrderedDict[Key, _Sequence] = OrderedDict()
        self.outputs = tuple(state.output for state in states)
        self.nbytes = 0
        self.expired = 0

    def __bool__(self) -> bool:
        """Whether the model carries states at all."""
        return bool(self._states)

    def __len__(self) -> int:
        return len(self._live)

    @property
    def batchable(self) -> bool:
        """Whether calls of several sequences can run together."""
        return all(state.batchable for state in self._states)

    def ticket(self, call: InferCall, now_ns: int, feed: Mapping[str, Array]) -> Ticket | None:
        """The place of ``call`` in a sequence, None when it belongs to none; the last of the checks of a call.

        Raises InvalidArgument SEQUENCE for parameters or inputs that don't go together, SEQUENCE_UNKNOWN for a call that
        goes on with what isn't there, ResourceExhausted SEQUENCES_MAX or SEQUENCE_MEMORY.
        """
        named = identity_of(call) if call.parameters else None
        if not self._states:
            if named is not None:
                raise InvalidArgument(
                    "this model keeps nothing from one call to the next: leave sequence_id out", reason="SEQUENCE"
                )
            return None
        if named is None:
            self._check_complete(feed)
            return None
        identity, starts, ends = named
        for name in self._inputs:
            if name in feed:
                raise InvalidArgument(
                    f"the input {name!r} is kept for the sequence: leave it out, or give all states and no sequence_id",
                    reason="SEQUENCE",
                )
        self.sweep(now_ns)
        rows = self._rows_of.count(feed)
        key = (call.client, identity)
        sequence = self._start(key, rows, now_ns) if starts else self._found(key, rows)
        sequence.waiting += 1
        sequence.ending = ends
        self._touch(sequence, now_ns)
        return Ticket(self, sequence, starts, ends)

    def _check_complete(self, feed: Mapping[str, Array]) -> None:
        for name in self._inputs:
            if name not in feed:
                raise InvalidArgument(
                    f"the request lacks the input {name!r}: give it, or a sequence_id with sequence_start, and the"
                    " server keeps it",
                    reason="TENSOR_MISSING",
                )

    def _start(self, key: Key, rows: int, now_ns: int) -> _Sequence:
        previous = self._live.get(key)
        if previous is None and len(self._live) >= self._options.sequences_max:
            raise ResourceExhausted(
                f"{len(self._live)} sequences live, which is the bound: end those that are over (sequence_end), or try"
                f" again when idle ones are forgotten, after {self._options.idle_seconds_max:g} s",
                reason="SEQUENCES_MAX",
            )
        nbytes = sum(state.nbytes(rows) for state in self._states)
        freed = previous.nbytes if previous is not None and not previous.waiting else 0
        self._check_memory(nbytes - freed)
        if previous is not None:
            self._forget(previous)
        sequence = _Sequence(key, rows, nbytes, now_ns)
        self.nbytes += nbytes
        self._live[key] = sequence
        return sequence

    def _found(self, key: Key, rows: int) -> _Sequence:
        sequence = self._live.get(key)
        if sequence is None:
            idle = f"{self._options.idle_seconds_max:g} s"
            raise unknown(key[1], f"it never began, has ended, was idle for more than {idle}, or the engine restarted")
        if sequence.ending:
            raise unknown(key[1], "a call that ends it came before")
        if sequence.rows != rows:
            raise InvalidArgument(
                f"sequence {shown(key[1])} has {sequence.rows} rows, this call {rows}: each row carries a state of its"
                " own, so their number stays",
                reason="SEQUENCE",
            )
        return sequence

    def fresh(self, rows: int) -> dict[str, Array]:
        """The states that a sequence begins with."""
        return {state.input: state.fresh(rows) for state in self._states}

    def keep(self, sequence: _Sequence, outputs: Mapping[str, Array]) -> None:
        """What the next call of ``sequence`` will get; raises as Ticket.keep does and changes nothing then."""
        kept: dict[str, Array] = {}
        nbytes = 0
        for state in self._states:
            array = outputs[state.output]
            if not state.takes(array.shape, sequence.rows):
                raise InternalError(
                    f"the model gave a state {state.output!r} of shape {list(array.shape)} for {sequence.rows} rows,"
                    f" which its input {state.input!r} doesn't take",
                    reason="SEQUENCE_STATE",
                )
            kept[state.input] = array
            nbytes += array.nbytes
        if nbytes > sequence.nbytes:
            self._check_memory(nbytes - sequence.nbytes)
        # A view would keep the outputs of the whole batch alive.
        sequence.states = {n: np.array(a) if isinstance(a.base, np.ndarray) else a for n, a in kept.items()}
        self.nbytes += nbytes - sequence.nbytes
        sequence.nbytes = nbytes

    def leave(self, sequence: _Sequence, *, gone: bool) -> None:
        """A call of ``sequence`` has ended, and the sequence with it where it is ``gone``."""
        sequence.waiting -= 1
        alive = self._live.get(sequence.key) is sequence
        if gone and alive:
            del self._live[sequence.key]
            alive = False
        if alive:
            self._touch(sequence, self._now())
        elif not sequence.waiting:
            self.nbytes -= sequence.nbytes

    def sweep(self, now_ns: int) -> None:
        """Forgets what has been idle for too long. Costs what there is to forget."""
        live = self._live
        while live:
            oldest = next(iter(live.values()))
            if now_ns - oldest.used_ns <= self._idle_ns:
                return
            if oldest.waiting:  # it isn't idle: its call is
                self._touch(oldest, now_ns)
                continue
            self._forget(oldest)
            self.expired += 1

    def _touch(self, sequence: _Sequence, now_ns: int) -> None:
        sequence.used_ns = now_ns
        self._live.move_to_end(sequence.key)

    def _forget(self, sequence: _Sequence) -> None:
        del self._live[sequence.key]
        if not sequence.waiting:
            self.nbytes -= sequence.nbytes

    def _check_memory(self, more: int) -> None:
        if self.nbytes + more > self._bytes_max:
            raise ResourceExhausted(
                f"the states of {len(self._live)} sequences have {self.nbytes} bytes, with this call they would have"
                f" {self.nbytes + more}, and {self._bytes_max} are allowed: end those that are over, or send fewer rows",
                reason="SEQUENCE_MEMORY",
            )
