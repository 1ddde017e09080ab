"""Running what the planner chose: tensors in, the session, answers out; and what becomes of calls that fail."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appliance import events
from appliance.answers import InferDone
from appliance.engine.arrays import Array
from appliance.engine.onnx.batch import Batch, feed_of, names_of, state_parts, together
from appliance.engine.onnx.batch_axes import BatchAxes
from appliance.engine.onnx.codec import Encoding, OutputPlan
from appliance.engine.onnx.counters import Counters, Times
from appliance.engine.onnx.failures import run_error
from appliance.engine.onnx.planner import Waiting
from appliance.engine.onnx.runner import Runner
from appliance.errors import ApplianceError

_log = logging.getLogger(__name__)


class Executor:
    """``run_ns``: what the last run took. ``one_by_one``: batches came out wrong, so there must be no more.

    ``states``: the outputs that sequences carry on.
    """

    def __init__(
        self, run: Runner, axes: BatchAxes | None, states: tuple[str, ...], counters: Counters, now: Callable[[], int]
    ) -> None:
        self.run = run
        self.run_ns = 0
        self.one_by_one = axes is None
        self._axes = axes
        self._states = states
        self._counters = counters
        self._now = now

    def alone(self, call: Waiting, started_ns: int) -> None:
        """Answers one call, whatever happens. ``started_ns``: when it was taken from the queue."""
        try:
            feed, names = call.feed, call.outputs.names
            if call.ticket is not None:
                feed, names = feed_of(call), names_of((call,), self._states)
            fed_ns = self._now()
            values = self.run(names, feed)
            ran_ns = self._now()
            encoding = call.outputs.encode(values)
        except ApplianceError as error:
            self.failed(call, error)
            return
        except Exception as error:  # the runtime's exceptions share no base class below Exception
            self.failed(call, run_error(error))
            return
        answer: Encoding | ApplianceError = encoding
        if call.ticket is not None:
            outputs = dict(zip(names, values, strict=True))
            answer = _kept(call, {name: outputs[name] for name in self._states}, encoding)
        self._answer((call,), (answer,), call.rows, Times(started_ns, fed_ns, ran_ns, self._now()))

    def together(self, calls: Sequence[Waiting], started_ns: int) -> bool:
        """Answers the calls of one bucket; False: none of them, each must be run alone."""
        if self._axes is None or self.one_by_one:
            return False
        try:
            batch = together(calls, self._axes, self._states)
            fed_ns = self._now()
            values = self.run(batch.names, batch.feed)
            ran_ns = self._now()
            outputs = dict(zip(batch.names, values, strict=True))
            wrong = self._axes.wrong_output(outputs, batch.rows)
            if wrong:
                _log.warning(
                    "output %r doesn't have a row for each row of the inputs: calls are run one by one from now on",
                    wrong,
                    extra=events.MODEL_LIMITED.of(),
                )
                self.one_by_one = True
                return False
            encodings = _encoded(calls, outputs, batch)
        except Exception as error:  # one call's fault, or nobody's: alone, each gets its own answer or error
            _log.info("a batch of %d calls failed (%s): they are run one by one", len(calls), type(error).__name__)
            return False
        if batch.stateful:
            states = state_parts(outputs, self._states, self._axes, batch.cuts)
            for at, call in enumerate(calls):
                encoding = encodings[at]
                # A call that is answered with an error leaves its sequence as it was.
                if not isinstance(encoding, ApplianceError):
                    encodings[at] = _kept(call, states[at], encoding)
        self._answer(calls, encodings, batch.rows, Times(started_ns, fed_ns, ran_ns, self._now()))
        return True

    def _answer(
        self, calls: Sequence[Waiting], encodings: Sequence[Encoding | ApplianceError], rows: int, times: Times
    ) -> None:
        self.run_ns = compute_ns = times.compute_ns
        answered = waited_ns = answered_rows = 0
        for call, encoding in zip(calls, encodings, strict=True):
            if isinstance(encoding, ApplianceError):
                self.failed(call, encoding)
                continue
            queue_ns = max(0, times.started_ns - call.arrived_ns)
            answered += 1
            answered_rows += call.rows
            waited_ns += queue_ns
            call.reply.finish(InferDone(encoding[0], queue_ns, compute_ns, rows), encoding[1])
        if answered:
            self._counters.ran(answered, answered_rows, waited_ns, rows, times)

    def failed(self, call: Waiting, error: ApplianceError) -> None:
        """The call ends with an error."""
        self._counters.failed(self._now() - call.arrived_ns)
        drop(call)
        call.reply.fail(error)


def _encoded(calls: Sequence[Waiting], outputs: Mapping[str, Any], batch: Batch) -> list[Encoding | ApplianceError]:
    """What each call asked for of the outputs of a batch."""
    first = calls[0].outputs
    if all(call.outputs is first for call in calls):
        return first.encode_parts(outputs, batch.cuts)
    places: dict[OutputPlan, list[int]] = {}
    for at, call in enumerate(calls):
        places.setdefault(call.outputs, []).append(at)
    encodings: dict[int, Encoding | ApplianceError] = {}
    for plan, mine in places.items():
        encodings.update(zip(mine, plan.encode_parts(outputs, [batch.cuts[at] for at in mine]), strict=True))
    return [encodings[at] for at in range(len(calls))]


def _kept(call: Waiting, states: Mapping[str, Array], encoding: Encoding) -> Encoding | ApplianceError:
    """Hands a sequence its new states, once its answer has its place; why it can't go on, which is then the answer."""
    if call.ticket is None:
        return encoding
    try:
        heads, buffers = call.reply.place(*encoding)
        call.ticket.keep(states)
    except ApplianceError as error:
        return error
    call.ticket = None
    return heads, buffers


def drop(call: Waiting) -> None:
    """The call ends without a run that succeeded: its sequence stays as it was."""
    if call.ticket is not None:
        call.ticket.drop()
